// The one C++ file: toml++'s tree copied into the plain one of base/toml.h. No exception leaves it.

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string_view>

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

extern "C" struct toml_node *
toml_parse(const char *text, size_t length, const char *name, struct error *err)
{
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
