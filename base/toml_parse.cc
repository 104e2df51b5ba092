// The one C++ file: toml++'s tree copied into the plain one of base/toml.h. No exception leaves it.

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string_view>

// Some of what toml++ 3.3 asserts, or lets the optimizer assume, is not so of every file ("[:x]"); its checks behind see to that.
#undef NDEBUG
#define TOML_ASSERT(expr) static_assert(true)
#include <toml++/toml.h>

extern "C" {
#include "base/str.h"
#include "base/toml.h"
}

static void copy_node(const toml::node &from, struct toml_node *to);

static int
line_of(const toml::node &node)
{
    return static_cast<int>(node.source().begin.line);
}

static void
copy_table(const toml::table &from, struct toml_node *to)
{
    to->type = TOML_TABLE;
    to->children = static_cast<struct toml_node *>(mem_zalloc(from.size(), sizeof *to->children));
    for (const auto &[key, value] : from) {
        struct toml_node *child = &to->children[to->count++];
        copy_node(value, child);
        child->key = str_ndup(key.data(), key.length());
        child->line = static_cast<int>(key.source().begin.line);
    }
    std::stable_sort(to->children, to->children + to->count, [](const struct toml_node &a, const struct toml_node &b) { return a.line < b.line; });
}

static void
copy_array(const toml::array &from, struct toml_node *to)
{
    to->type = TOML_ARRAY;
    to->children = static_cast<struct toml_node *>(mem_zalloc(from.size(), sizeof *to->children));
    for (const auto &value : from)
        copy_node(value, &to->children[to->count++]);
}

static void
copy_node(const toml::node &from, struct toml_node *to)
{
    to->line = line_of(from);
    if (const auto *table = from.as_table())
        copy_table(*table, to);
    else if (const auto *array = from.as_array())
        copy_array(*array, to);
    else if (const auto *string = from.as_string()) {
        to->type = TOML_STRING;
        to->string = str_ndup(string->get().data(), string->get().length());
    } else if (const auto *integer = from.as_integer()) {
        to->type = TOML_INTEGER;
        to->integer = integer->get();
    } else if (const auto *boolean = from.as_boolean()) {
        to->type = TOML_BOOLEAN;
        to->integer = boolean->get();
    } else if (const auto *number = from.as_floating_point()) {
        to->type = TOML_FLOAT;
        to->number = number->get();
    } else
        to->type = TOML_DATE;
}

// Past the string that begins at `at`; where it is not closed, past its line or the text.
static const char *
past_string(const char *at, const char *end)
{
    const char quote = *at;
    const bool multi = end - at >= 3 && at[1] == quote && at[2] == quote;
    for (at += multi ? 3 : 1; at < end; at++) {
        if (*at == '\\' && quote == '"')
            at++;
        else if (*at == '\n' && !multi)
            return at;
        else if (*at == quote && !multi)
            return at + 1;
        else if (*at == quote && end - at >= 3 && at[1] == quote && at[2] == quote) {
            while (at < end && *at == quote) // the last two of five quotes are the string's own
                at++;
            return at;
        }
    }
    return end;
}

// Letters beyond ASCII stand in strings and comments only (TOML 1.0, "Keys"). Debian's toml++ 3.3 runs into undefined behaviour at some of them
// elsewhere, so they are refused before it sees them. Returns the line of the first one, or 0.
static int
line_of_foreign_letter(const char *at, size_t length)
{
    int line = 1;
    for (const char *end = at + length; at < end;) {
        if (static_cast<unsigned char>(*at) >= 0x80)
            return line;
        const char *next = *at == '"' || *at == '\'' ? past_string(at, end) : *at == '#' ? std::find(at, end, '\n') : at + 1;
        line += static_cast<int>(std::count(at, std::min(next, end), '\n'));
        at = next;
    }
    return 0;
}

extern "C" struct toml_node *
toml_parse(const char *text, size_t length, const char *name, struct error *err)
{
    if (length >= 3 && std::memcmp(text, "\xef\xbb\xbf", 3) == 0) { // a byte order mark
        text += 3;
        length -= 3;
    }
    if (const int line = line_of_foreign_letter(text, length)) {
        error_set(err, ERR_INVALID, "%s:%d: letters beyond ASCII must stand in quotes", name, line);
        return nullptr;
    }
    try {
        toml::table table = toml::parse(std::string_view{text, length}, std::string_view{name});
        auto *root = static_cast<struct toml_node *>(mem_zalloc(1, sizeof(struct toml_node)));
        copy_table(table, root);
        root->line = 1;
        return root;
    } catch (const toml::parse_error &bad) {
        error_set(err, ERR_INVALID, "%s:%u: %s", name, static_cast<unsigned>(bad.source().begin.line), std::string(bad.description()).c_str());
    } catch (const std::exception &bad) {
        error_set(err, ERR_INVALID, "%s: %s", name, bad.what());
    }
    return nullptr;
}
