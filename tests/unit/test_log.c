/* What the monitor writes: the log's records, exit records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"
#include "runtime/exit_record.h"
#include "runtime/monitor/log.h"
#include "runtime/monitor/monitor.h"

static struct container container;
static struct block block;
static char directory[64];

static int
directory_up(void **state)
{
    (void)state;
    (void)snprintf(directory, sizeof directory, "/tmp/crisp-log.XXXXXX");
    return mkdtemp(directory) ? 0 : -1;
}

static int
directory_down(void **state)
{
    (void)state;
    struct error err;
    return file_remove_tree(AT_FDCWD, directory, &err);
}

static char *
in(const char *name)
{
    static char path[2][128];
    static unsigned next;
    char *p = path[next++ % 2];
    (void)snprintf(p, sizeof path[0], "%s/%s", directory, name);
    return p;
}

static void
open_log(const char *name)
{
    container.stdio.log.fd = -1;
    container.stdio.out = (struct stream){.container = &container, .name = "stdout"};
    (void)snprintf(container.stdio.log.path, sizeof container.stdio.log.path, "%s", in(name));
    log_open_work(&container.stdio.log.open_job);
}

static void
write_block(const void *data, size_t length)
{
    block.stream = &container.stdio.out;
    block.read_ns = INT64_C(1767323045678901234);
    block.length = length;
    block.from = 0;
    memcpy(block.data, data, length);
    log_write_work(&block.job);
}

static char *
content(const char *name)
{
    struct error err;
    char *text = NULL;
    assert_int_equal(file_read(AT_FDCWD, in(name), 1 << 20, &text, NULL, &err), 0);
    return text;
}

static void
records_are_as_cri_wants_them(void **state)
{
    (void)state;
    (void)umask(022);
    open_log("a.log");
    assert_int_equal(container.stdio.log.open_errno, 0);
    write_block("one\n\ntwo\nthr", 12);
    log_close_work(&container.stdio.log.close_job);
    cleanup_free char *text = content("a.log");
    assert_string_equal(text, "2026-01-02T03:04:05.678901234Z stdout F one\n2026-01-02T03:04:05.678901234Z stdout F \n"
                              "2026-01-02T03:04:05.678901234Z stdout F two\n2026-01-02T03:04:05.678901234Z stdout P thr\n");
    struct stat st;
    assert_int_equal(stat(in("a.log"), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
}

static void
many_short_lines_need_more_than_one_write(void **state)
{
    (void)state;
    char lines[2000];
    open_log("b.log");
    memset(lines, '\n', sizeof lines);
    write_block(lines, sizeof lines);
    log_close_work(&container.stdio.log.close_job);
    cleanup_free char *text = content("b.log");
    assert_int_equal(strlen(text), 2000 * 41);
}

static void
reopening_continues_in_the_new_file(void **state)
{
    (void)state;
    open_log("c.log");
    write_block("one\n", 4);
    assert_int_equal(rename(in("c.log"), in("c.log.1")), 0);
    write_block("two\n", 4);
    log_open_work(&container.stdio.log.open_job);
    write_block("three\n", 6);
    log_close_work(&container.stdio.log.close_job);
    cleanup_free char *old = content("c.log.1"), *new = content("c.log");
    assert_non_null(strstr(old, "F two\n"));
    assert_null(strstr(old, "three"));
    assert_non_null(strstr(new, "F three\n"));
}

/* A file that takes no more ends with a whole record; the next one begins with what is missing. */
static void
what_could_not_be_written_is_counted_and_no_line_is_cut(void **state)
{
    (void)state;
    struct rlimit unlimited, limit;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
    limit = unlimited;
    limit.rlim_cur = 100; /* two lines of 44 bytes, and a part of the third */
    open_log("f.log");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    write_block("one\ntwo\nsix\nten\n", 16);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
    assert_int_equal(container.stdio.log.write_errno, EFBIG);
    assert_false(block.job.again);
    assert_int_equal(rename(in("f.log"), in("f.log.1")), 0);
    log_open_work(&container.stdio.log.open_job);
    assert_int_equal(container.stdio.log.write_errno, 0);
    block.lost = 5; /* in a backlog that was full */
    write_block("next\n", 5);
    write_block("last\n", 5);
    log_close_work(&container.stdio.log.close_job);
    cleanup_free char *old = content("f.log.1"), *new = content("f.log");
    assert_string_equal(old, "2026-01-02T03:04:05.678901234Z stdout F one\n2026-01-02T03:04:05.678901234Z stdout F two\n");
    assert_string_equal(new, "2026-01-02T03:04:05.678901234Z stdout F crisp: 13 bytes of output were lost here, as the log could not be written\n"
                             "2026-01-02T03:04:05.678901234Z stdout F next\n2026-01-02T03:04:05.678901234Z stdout F last\n");
}

static void
a_backlog_gives_back_what_it_took_and_refuses_the_rest(void **state)
{
    (void)state;
    enum { SIZE = 100000, MOST = 30000 };
    static char data[MOST], back[MOST];
    struct backlog backlog;
    struct backlog_piece piece;
    unsigned put = 0, taken = 0, refused = 0;
    srand(7);
    assert_int_equal(backlog_open(&backlog, SIZE), 0);
    assert_false(backlog_peek(&backlog, &piece));
    for (int i = 0; i < 5000; i++) {
        if (rand() % 2) {
            struct backlog_piece more = {.read_ns = put, .lost = put + 1, .length = (uint32_t)(rand() % MOST), .is_err = put % 2};
            memset(data, (int)put, more.length);
            bool fits = SIZE - backlog.used >= sizeof more + more.length;
            assert_int_equal(backlog_put(&backlog, &more, data), fits);
            put += fits;
            refused += !fits;
        } else if (backlog_peek(&backlog, &piece)) {
            backlog_take(&backlog, &piece, back);
            assert_int_equal(piece.read_ns, taken);
            assert_int_equal(piece.lost, taken + 1);
            assert_int_equal(piece.is_err, taken % 2);
            for (size_t at = 0; at < piece.length; at++)
                assert_int_equal(back[at], (char)taken);
            taken++;
        }
    }
    assert_true(taken > 1000 && refused > 100);
    backlog_close(&backlog);
}

static void
neither_a_symlink_nor_a_fifo_is_written(void **state)
{
    (void)state;
    assert_int_equal(symlink("/etc/passwd", in("d.log")), 0);
    open_log("d.log");
    assert_int_equal(container.stdio.log.open_errno, EINVAL);
    assert_int_equal(mkfifo(in("e.log"), 0600), 0);
    open_log("e.log");
    assert_int_equal(container.stdio.log.open_errno, EINVAL);
    assert_int_equal(container.stdio.log.fd, -1);
}

static void
whole_records_end_at_a_newline_or_a_full_piece(void **state)
{
    (void)state;
    static char data[3 * LOG_PIECE_MAX];
    memset(data, 'x', sizeof data);
    assert_int_equal(log_whole_records(data, 0), 0);
    assert_int_equal(log_whole_records(data, 100), 0);
    assert_int_equal(log_whole_records(data, LOG_PIECE_MAX), 0); /* its newline may come */
    assert_int_equal(log_whole_records(data, LOG_PIECE_MAX + 1), LOG_PIECE_MAX);
    assert_int_equal(log_whole_records(data, 3 * LOG_PIECE_MAX), 2 * LOG_PIECE_MAX);
    data[9] = '\n';
    assert_int_equal(log_whole_records(data, 100), 10);
    assert_int_equal(log_whole_records(data, LOG_PIECE_MAX + 11), LOG_PIECE_MAX + 10);
}

static void
an_exit_record_is_read_as_written_and_torn_ones_are_none(void **state)
{
    (void)state;
    struct exit_report report = {.status = 137, .oom_killed = true, .finished_ns = INT64_C(1767323045678901234)}, back = {0};
    char text[EXIT_RECORD_MAX];
    size_t length = exit_record_format(&report, text);
    assert_string_equal(text, "version=1\nstatus=137\noom_killed=1\nfinished_ns=1767323045678901234\nend\n");
    assert_true(exit_record_parse(text, &back));
    assert_memory_equal(&back.finished_ns, &report.finished_ns, sizeof report.finished_ns);
    assert_int_equal(back.status, 137);
    assert_true(back.oom_killed);
    for (size_t cut = 0; cut < length; cut++) {
        char torn[EXIT_RECORD_MAX] = "";
        memcpy(torn, text, cut);
        assert_false(exit_record_parse(torn, &back));
    }
    assert_true(exit_record_parse("version=2\nstatus=0\nnews=1\noom_killed=0\nfinished_ns=5\nend\n", &back));
    static const char *const wrong[] = {"version=1\nstatus=256\noom_killed=0\nfinished_ns=5\nend\n",
                                        "version=1\nstatus=x\noom_killed=0\nfinished_ns=5\nend\n", "version=1\noom_killed=0\nfinished_ns=5\nend\n",
                                        "version=1\nstatus=1\noom_killed=0\nfinished_ns=99999999999999999999\nend\n"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_false(exit_record_parse(wrong[i], &back));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_as_cri_wants_them),
        cmocka_unit_test(many_short_lines_need_more_than_one_write),
        cmocka_unit_test(reopening_continues_in_the_new_file),
        cmocka_unit_test(what_could_not_be_written_is_counted_and_no_line_is_cut),
        cmocka_unit_test(a_backlog_gives_back_what_it_took_and_refuses_the_rest),
        cmocka_unit_test(neither_a_symlink_nor_a_fifo_is_written),
        cmocka_unit_test(whole_records_end_at_a_newline_or_a_full_piece),
        cmocka_unit_test(an_exit_record_is_read_as_written_and_torn_ones_are_none),
    };
    return cmocka_run_group_tests(tests, directory_up, directory_down);
}
