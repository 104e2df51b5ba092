/* The reader of configuration tables, and crispd's own table with its page in docs/. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "cri/configuration.h"

struct sample {
    char *name, *path, *mode, *nothing;
    struct strv list;
    int64_t number;
    bool yes;
    struct config_tables rooms;
};

struct room {
    char *name;
    int64_t beds;
};

static const struct config_key room_keys[] = {
    {"rooms.NAME", "beds", CONFIG_INTEGER, offsetof(struct room, beds), "2", 1, 9, NULL, "How many.", NULL},
};
static const struct config_keys rooms = {room_keys, 1, sizeof(struct room)};

static const struct config_key keys[] = {
    {"", "name", CONFIG_STRING, offsetof(struct sample, name), "crisp", 0, 0, NULL, "A name.", NULL},
    {"", "path", CONFIG_PATH, offsetof(struct sample, path), "/a", 0, 0, NULL, "A path.", NULL},
    {"", "nothing", CONFIG_PATH, offsetof(struct sample, nothing), NULL, 0, 0, NULL, "A path that may be empty.", NULL},
    {"t", "mode", CONFIG_STRING, offsetof(struct sample, mode), "one", 0, 0, "one two", "A choice.", NULL},
    {"t.u", "list", CONFIG_STRINGS, offsetof(struct sample, list), "x y", 0, 0, NULL, "A list.", NULL},
    {"t.u", "number", CONFIG_INTEGER, offsetof(struct sample, number), "5", 1, 9, NULL, "A number.", NULL},
    {"t.u", "yes", CONFIG_BOOLEAN, offsetof(struct sample, yes), "true", 0, 0, NULL, "A switch.", NULL},
    {"", "rooms", CONFIG_TABLES, offsetof(struct sample, rooms), NULL, 0, 0, NULL, "Rooms.", &rooms},
};
enum { KEYS = sizeof keys / sizeof *keys };

static char directory[64], file[128];
static struct sample sample;
static struct error err;

static void
write_file(const char *path, const char *text)
{
    assert_int_equal(file_replace(AT_FDCWD, path, text, strlen(text), 0644, false, &err), 0);
}

static int
setup(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof directory, "/var/tmp/crisp-test-config.XXXXXX");
    if (!mkdtemp(directory))
        return -1;
    (void)snprintf(file, sizeof file, "%s/config.toml", directory);
    err = (struct error){0};
    sample = (struct sample){0};
    config_defaults(keys, KEYS, &sample);
    return 0;
}

static int
teardown(void **state)
{
    (void)state;
    config_free(keys, KEYS, &sample);
    return file_remove_tree(AT_FDCWD, directory, &err);
}

static int
read_text(const char *text)
{
    write_file(file, text);
    return config_read(keys, KEYS, &sample, file, true, &err);
}

static void
what_is_not_given_has_its_default(void **state)
{
    (void)state;
    assert_int_equal(read_text(""), 0);
    assert_string_equal(sample.name, "crisp");
    assert_string_equal(sample.nothing, "");
    assert_int_equal(sample.list.count, 2);
    assert_int_equal(sample.number, 5);
    assert_true(sample.yes);
}

static void
what_is_given_holds(void **state)
{
    (void)state;
    assert_int_equal(read_text("name = \"\"\npath = \"/b\"\n[t]\nmode = \"two\"\nu.list = []\nu.number = 9\nu.yes = false\n"), 0);
    assert_string_equal(sample.name, "");
    assert_string_equal(sample.path, "/b");
    assert_string_equal(sample.mode, "two");
    assert_int_equal(sample.list.count, 0);
    assert_int_equal(sample.number, 9);
    assert_false(sample.yes);
}

static void
mistakes_are_told_with_file_and_line(void **state)
{
    static const struct {
        const char *text, *words;
    } mistakes[] = {
        {"\nnmae = \"x\"\n", ":2: unknown key \"nmae\""},
        {"\n[t]\nmood = 1\n", ":3: unknown key \"t.mood\""},
        {"[other]\nx = 1\n", ":1: unknown key \"other\""},
        {"name = 7\n", ":1: name: wants a string, found an integer"},
        {"name.x = 7\n", ":1: name: wants a string, found a table"},
        {"t = 1\n", ":1: unknown key \"t\""},
        {"path = \"relative\"\n", ":1: path: \"relative\" is not an absolute path"},
        {"path = \"\"\n", ":1: path: \"\" is not an absolute path"},
        {"\n[t]\nmode = \"three\"\n", ":3: mode: \"three\" is none of: one two"},
        {"[t.u]\nnumber = 10\n", ":2: number: 10 is not within 1 and 9"},
        {"[t.u]\nnumber = 0\n", ":2: number: 0 is not within 1 and 9"},
        {"[t.u]\nnumber = 1.5\n", ":2: number: wants an integer, found a float"},
        {"[t.u]\nlist = \"x\"\n", ":2: list: wants an array of strings, found a string"},
        {"[t.u]\nlist = [1]\n", ":2: list: wants strings only"},
        {"[t.u]\nyes = 1\n", ":2: yes: wants true or false"},
        {"name = \n", ":1: "},
        {"rooms = 1\n", ":1: rooms: wants tables, found an integer"},
        {"[rooms]\nred = 1\n", ":2: red: wants a table, found an integer"},
        {"[rooms.red]\nchairs = 1\n", ":2: unknown key \"rooms.NAME.chairs\""},
        {"[rooms.red]\nbeds = 10\n", ":2: beds: 10 is not within 1 and 9"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        assert_int_equal(read_text(mistakes[i].text), -1);
        assert_int_equal(err.kind, ERR_INVALID);
        if (!str_starts(err.message, file) || !str_starts(err.message + strlen(file), mistakes[i].words))
            fail_msg("\"%s\" should say \"%s\"", err.message, mistakes[i].words);
    }
}

static void
drop_ins_come_after_in_the_order_of_their_names(void **state)
{
    char path[256];
    (void)state;
    (void)snprintf(path, sizeof path, "%s/config.d", directory);
    assert_int_equal(mkdir(path, 0755), 0);
    (void)snprintf(path, sizeof path, "%s/config.d/20.toml", directory);
    write_file(path, "name = \"second\"\n[t.u]\nlist = [\"z\"]\n");
    (void)snprintf(path, sizeof path, "%s/config.d/10.toml", directory);
    write_file(path, "name = \"first\"\n[t.u]\nnumber = 3\n");
    (void)snprintf(path, sizeof path, "%s/config.d/30.toml.bak", directory);
    write_file(path, "nonsense");
    assert_int_equal(read_text("name = \"main\"\n[t.u]\nnumber = 2\n"), 0);
    assert_string_equal(sample.name, "second");
    assert_int_equal(sample.number, 3);
    assert_int_equal(sample.list.count, 1);
    (void)snprintf(path, sizeof path, "%s/config.d/40.toml", directory);
    write_file(path, "\nbad = 1\n");
    assert_int_equal(read_text(""), -1);
    assert_non_null(strstr(err.message, "40.toml:2"));
}

static void
tables_that_users_name_are_as_many_as_they_write(void **state)
{
    (void)state;
    assert_int_equal(read_text("[rooms.red]\nbeds = 3\n[rooms.\"the blue\"]\n"), 0);
    assert_int_equal(read_text("[rooms.red]\n[rooms.green]\nbeds = 4\n"), 0);
    const struct room *room = sample.rooms.items;
    assert_int_equal(sample.rooms.count, 3);
    assert_string_equal(room[0].name, "red");
    assert_int_equal(room[0].beds, 3);
    assert_string_equal(room[1].name, "the blue");
    assert_int_equal(room[1].beds, 2);
    assert_int_equal(room[2].beds, 4);
}

static void
a_missing_file_is_an_error_only_where_it_was_named(void **state)
{
    (void)state;
    assert_int_equal(config_read(keys, KEYS, &sample, file, false, &err), 0);
    assert_int_equal(config_read(keys, KEYS, &sample, file, true, &err), -1);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
}

/* ---- crispd's own ---- */

static char *
written_by(void (*write)(const struct configuration *configuration, FILE *out), const struct configuration *configuration)
{
    char *text = NULL;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    write(configuration, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void
print(const struct configuration *configuration, FILE *out)
{
    config_print(configuration_keys, configuration_key_count, configuration, out);
}

static void
document(const struct configuration *configuration, FILE *out)
{
    (void)configuration;
    config_document(configuration_keys, configuration_key_count, out);
}

static void
what_is_printed_can_be_read_again(void **state)
{
    struct configuration first, second;
    (void)state;
    write_file(file, "log_level = \"debug\"\n[images]\npinned = [\"a\\\"b\\\\\", \"c\"]\n[network]\nmode = \"builtin\"\n"
                     "[trust.a]\nscope = \"registry.example\"\nnamespaces = [\"b\"]\npolicy = \"reject\"\n");
    assert_int_equal(configuration_load(&first, file, &err), 0);
    assert_string_equal(first.network.mode, "builtin");
    cleanup_free char *once = written_by(print, &first);
    write_file(file, once);
    if (configuration_load(&second, file, &err) < 0)
        fail_msg("%s", err.message);
    cleanup_free char *twice = written_by(print, &second);
    assert_string_equal(once, twice);
    assert_string_equal(second.images.pinned.items[0], "a\"b\\");
    configuration_free(&first);
    configuration_free(&second);
}

static void
values_that_contradict_each_other_are_refused(void **state)
{
    static const char *const bad[] = {"[limits]\nnofile_soft = 100\nnofile_hard = 10\n",
                                      "[network]\nbridge = \"a-name-that-is-too-long\"\n",
                                      "[network]\nbridge = \"\"\n",
                                      "[network]\nbridge = \"a{b\"\n",
                                      "[trust.a]\n",
                                      "[trust.a]\nkeys = [\"relative.pub\"]\n",
                                      "[trust.a]\npolicy = \"maybe\"\n",
                                      "[trust.a]\npolicy = \"reject\"\nscope = \"busybox\"\n",
                                      "[trust.a]\npolicy = \"reject\"\n[trust.b]\npolicy = \"accept\"\n"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct configuration configuration;
        write_file(file, bad[i]);
        assert_int_equal(configuration_load(&configuration, file, &err), -1);
        assert_int_equal(err.kind, ERR_INVALID);
        configuration_free(&configuration);
    }
}

static void
runtime_handlers_are_checked_and_found_by_their_name(void **state)
{
    static const char *const bad[] = {"[runtimes.Kata]\n", "[runtimes.\"\"]\n", "[runtimes.a]\nseccomp_unset = \"sometimes\"\n"};
    struct configuration configuration;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_file(file, bad[i]);
        assert_int_equal(configuration_load(&configuration, file, &err), -1);
        assert_non_null(strstr(err.message, "runtimes"));
        configuration_free(&configuration);
    }
    write_file(file, "[runtimes.careful]\n[runtimes.fast]\n");
    assert_int_equal(configuration_load(&configuration, file, &err), 0);
    assert_int_equal(configuration_check_handler(&configuration, "", &err), 0);
    assert_int_equal(configuration_check_handler(&configuration, "fast", &err), 0);
    assert_int_equal(configuration_check_handler(&configuration, "kata", &err), -1);
    assert_string_equal(err.message, "runtime_handler: there is none named \"kata\"; this node has the default one, careful, fast");
    configuration_free(&configuration);
}

static void
check_config_said_sound_and_then_crispd_did_not_start(void **state)
{
    static const char *const bad[] = {"[network]\npools = [\"10.0.0.0/33\"]\n", "[network]\npools = [\"10.0.0.0/16\", \"10.1.0.0/16\"]\n",
                                      "[network]\nmode = \"builtin\"\npools = []\n", "[network]\ncni_plugin_dirs = [\"bin\"]\n",
                                      "[images]\ncerts_dirs = [\"certs.d\"]\n"};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct configuration configuration;
        write_file(file, bad[i]);
        assert_int_equal(configuration_load(&configuration, file, &err), -1);
        assert_int_equal(err.kind, ERR_INVALID);
        configuration_free(&configuration);
    }
}

/* With CRISP_UPDATE_DOCS set the page is written instead of compared. */
static void
the_page_for_users_lists_every_key(void **state)
{
    static const char begin[] = "<!-- keys: made from cri/configuration.c -->\n", end[] = "<!-- end of keys -->";
    const char *page = SOURCE_DIR "/docs/configure.md";
    cleanup_free char *text = NULL, *expected = written_by(document, NULL);
    (void)state;
    assert_int_equal(file_read(AT_FDCWD, page, 1 << 20, &text, NULL, &err), 0);
    char *from = strstr(text, begin), *to = from ? strstr(from, end) : NULL;
    assert_non_null(to);
    from += strlen(begin);
    cleanup_free char *listed = str_ndup(from, (size_t)(to - from));
    if (getenv("CRISP_UPDATE_DOCS")) {
        cleanup_free char *updated = str_printf("%.*s%s\n%s", (int)(from - text), text, expected, to);
        write_file(page, updated);
        return;
    }
    cleanup_free char *with_newline = str_printf("%s\n", expected);
    assert_string_equal(listed, with_newline);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_not_given_has_its_default),
        TEST(what_is_given_holds),
        TEST(mistakes_are_told_with_file_and_line),
        TEST(drop_ins_come_after_in_the_order_of_their_names),
        TEST(tables_that_users_name_are_as_many_as_they_write),
        TEST(a_missing_file_is_an_error_only_where_it_was_named),
        TEST(what_is_printed_can_be_read_again),
        TEST(values_that_contradict_each_other_are_refused),
        TEST(runtime_handlers_are_checked_and_found_by_their_name),
        TEST(check_config_said_sound_and_then_crispd_did_not_start),
        TEST(the_page_for_users_lists_every_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
