/* A real monitor, driven through link.h: what pods, containers, execs and logs do. */
#include "monitor_node.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void
a_container_runs_writes_its_log_and_ends(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct box box = pod_up();
    struct crate c = {.command = {"sh", "-c", "echo hello; echo oops >&2; hostname; exit 7"}};
    crate_start(&box, &c);
    struct exit_report report = wait_exit(c.id), recorded;
    assert_int_equal(report.status, 7);
    assert_false(report.oom_killed);
    cleanup_free char *log = log_of(&c);
    assert_non_null(strstr(log, "stdout F hello\n"));
    assert_non_null(strstr(log, "stderr F oops\n"));
    assert_non_null(strstr(log, "stdout F web-0\n"));
    struct stat st;
    assert_int_equal(stat(at("containers/%s/log", c.id), &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_true(exit_record_read(node.containers_dir, c.id, &recorded));
    assert_int_equal(recorded.status, 7);
    assert_true(recorded.finished_ns == report.finished_ns);
    crate_delete(&box, &c);
    pod_down(&box);
}

static void
a_missing_command_is_named_with_its_errno(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    int failed_op;
    int64_t started_ns;
    struct box box = pod_up();
    struct crate c = {.command = {"no-such-program"}};
    assert_int_equal(crate_create(&box, &c, &failed_op, &err), 0);
    assert_int_equal(link_start(box.link, c.id, &started_ns, &failed_op, &err), -1);
    assert_int_equal(err.errnum, ENOENT);
    cleanup_free char *words = spec_explain(c.spec, (size_t)failed_op);
    assert_string_equal(words, "exec no-such-program");
    assert_int_equal(wait_exit(c.id).status, 127);
    crate_delete(&box, &c);
    struct crate denied = {.command = {"/dev/null"}};
    assert_int_equal(crate_create(&box, &denied, &failed_op, &err), 0);
    assert_int_equal(link_start(box.link, denied.id, &started_ns, &failed_op, &err), -1);
    assert_int_equal(err.errnum, EACCES);
    assert_int_equal(wait_exit(denied.id).status, 126);
    crate_delete(&box, &denied);
    pod_down(&box);
}

static void
a_mount_that_fails_is_named_and_leaves_nothing(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    int failed_op;
    struct box box = pod_up();
    struct crate c = {.command = {"true"}, .bind_source = "/srv/not-there", .bind_target = "/data"};
    assert_int_equal(crate_create(&box, &c, &failed_op, &err), -1);
    assert_int_equal(err.errnum, ENOENT);
    cleanup_free char *words = spec_explain(c.spec, (size_t)failed_op);
    assert_string_equal(words, "mount /srv/not-there at /data ro private");
    assert_string_equal(err.message, "No such file or directory");
    crate_gone(&c);
    /* The name is free at once. A volatile overlay's upper directory is not mounted twice. */
    must(file_remove_tree(AT_FDCWD, at("containers/%s", c.id), &err), &err);
    struct crate again = {.command = {"true"}};
    (void)snprintf(again.id, sizeof again.id, "%s", c.id);
    crate_start(&box, &again);
    assert_int_equal(wait_exit(again.id).status, 0);
    crate_delete(&box, &again);
    pod_down(&box);
}

static void
a_pod_that_cannot_be_made_leaves_no_monitor(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    struct box box;
    int failed_op;
    struct spec_builder *b = pod_spec();
    spec_op(b, SPEC_SYSCTL, .text = {"net.no.such", "1"});
    assert_int_equal(spawn_with(&box, b, false, &failed_op, &err), -1);
    assert_int_equal(failed_op, 5);
    assert_int_equal(err.errnum, ENOENT);
    cleanup_free char *words = spec_explain(b, (size_t)failed_op);
    assert_string_equal(words, "sysctl net.no.such = 1");
    assert_int_equal(waitpid(-1, NULL, WNOHANG | __WALL), -1);
    assert_int_equal(errno, ECHILD);
    spec_free(b);
}

static void
a_command_runs_in_a_container_and_its_tree_dies_at_the_deadline(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    struct box box = pod_up();
    struct crate c = {.command = {"sleep", "1000"}};
    crate_start(&box, &c);
    cleanup_buf struct buf output = BUF(1 << 20);
    int status = -1;
    must(run_in(&box, &c, (const char *const[]){"sh", "-c", "hostname; cat /proc/1/cmdline; ls /proc/self/fd; exit 3", NULL}, NULL, &status, &output,
                &err),
         &err);
    assert_int_equal(status, 3);
    assert_non_null(strstr(output.data, "web-0\n"));
    assert_non_null(memmem(output.data, output.length,
                           "sleep\0"
                           "1000",
                           10));
    assert_null(strstr(output.data, "\n4\n")); /* 0, 1, 2 and ls' own 3 */
    assert_int_equal(run_in(&box, &c, (const char *const[]){"nope", NULL}, NULL, &status, NULL, &err), -1);
    assert_int_equal(err.errnum, ENOENT);
    struct cancel cancel;
    must(cancel_open(&cancel, clock_monotonic_ns() + 200 * NS_PER_MS, &err), &err);
    int64_t before = clock_monotonic_ns();
    assert_int_equal(run_in(&box, &c, (const char *const[]){"sh", "-c", "sleep 300 & sleep 301", NULL}, &cancel, &status, NULL, &err), -1);
    assert_int_equal(err.kind, ERR_DEADLINE);
    assert_true(clock_monotonic_ns() - before < NS_PER_SECOND);
    cancel_close(&cancel);
    must(link_kill(box.link, c.id, &err), &err);
    assert_int_equal(wait_exit(c.id).status, 137);
    assert_int_equal(run_in(&box, &c, (const char *const[]){"true", NULL}, NULL, &status, NULL, &err), -1);
    assert_int_equal(err.kind, ERR_PRECONDITION);
    crate_delete(&box, &c);
    pod_down(&box);
}

/* A client that takes part in a container's stdio, as crispd's session does for it: its ends of the pipes, and a thread that waits. */
struct client {
    struct link_attach attach;
    struct link *link;
    int in, out; /* -1: not wanted */
    pthread_t thread;
    int result;
    struct error err;
};

static void *
wait_attached(void *arg)
{
    struct client *client = arg;
    client->result = link_attach(client->link, &client->attach, &client->err);
    return NULL;
}

static void
client_come(struct client *client, const struct box *box, const struct crate *c, bool speaks)
{
    int out[2], in[2] = {-1, -1};
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(speaks ? pipe2(in, O_CLOEXEC) : 0, 0);
    *client = (struct client){
        .attach = {.container_id = c->id, .stdio = {in[0], out[1], -1}, .console = -1}, .link = box->link, .in = in[1], .out = out[0]};
    assert_int_equal(pthread_create(&client->thread, NULL, wait_attached, client), 0);
}

static int
client_leave(struct client *client)
{
    cleanup_closep(&client->in);
    cleanup_closep(&client->out);
    (void)pthread_join(client->thread, NULL);
    return client->result;
}

static bool
hears(const struct client *client, int ms)
{
    return poll(&(struct pollfd){.fd = client->out, .events = POLLIN}, 1, ms) == 1;
}

static void
attached_clients_hear_a_container_and_each_leaves_alone(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    struct box box = pod_up();
    struct crate c = {.command = {"sh", "-c", "while read word; do echo \"<$word>\"; done"}, .stdin_open = true};
    struct client speaker, listener;
    char text[8] = "";
    crate_start(&box, &c);
    client_come(&listener, &box, &c, false);
    client_come(&speaker, &box, &c, true);
    for (int i = 0; i < 500 && !hears(&listener, 10); i++) /* it may come after the word */
        assert_int_equal(write(speaker.in, "word\n", 5), 5);
    assert_int_equal(read(listener.out, text, 7), 7);
    assert_string_equal(text, "<word>\n");
    assert_true(hears(&speaker, 5000));
    assert_int_equal(client_leave(&speaker), 0);
    must(link_kill(box.link, c.id, &err), &err); /* its stdin stays open when a client leaves: it ran until now */
    assert_int_equal(wait_exit(c.id).status, 137);
    while (read(listener.out, text, sizeof text) > 0)
        continue;
    assert_int_equal(client_leave(&listener), 0);
    crate_delete(&box, &c);
    client_come(&speaker, &box, &c, true);
    assert_int_equal(client_leave(&speaker), -1);
    assert_int_equal(speaker.err.kind, ERR_NOT_FOUND);
    pod_down(&box);
}

static void
a_client_that_reads_nothing_is_detached(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct box box = pod_up();
    struct crate c = {.command = {"sh", "-c", "read word; seq 1 100000"}, .stdin_open = true};
    struct client client;
    crate_start(&box, &c);
    client_come(&client, &box, &c, true);
    assert_int_equal(write(client.in, "go\n", 3), 3);
    (void)pthread_join(client.thread, NULL);
    assert_int_equal(client.result, -1);
    assert_int_equal(client.err.kind, ERR_DEADLINE);
    assert_int_equal(wait_exit(c.id).status, 0);
    wait_log(&c, "stdout F 100000\n");
    cleanup_closep(&client.in);
    cleanup_closep(&client.out);
    crate_delete(&box, &c);
    pod_down(&box);
}

static void
a_signal_reaches_init(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    struct box box = pod_up();
    struct crate c = {.command = {"sh", "-c", "trap 'echo bye; exit 9' TERM; echo ready; while :; do sleep 0.05; done"}};
    crate_start(&box, &c);
    wait_log(&c, "ready");
    must(link_signal(box.link, c.id, SIGTERM, &err), &err);
    assert_int_equal(wait_exit(c.id).status, 9);
    wait_log(&c, "stdout F bye\n");
    must(link_signal(box.link, c.id, SIGTERM, &err), &err); /* gone: no error */
    crate_delete(&box, &c);
    assert_int_equal(link_signal(box.link, c.id, SIGTERM, &err), -1);
    assert_int_equal(err.kind, ERR_NOT_FOUND);
    pod_down(&box);
}

static void
long_lines_are_cut_and_unfinished_ones_marked(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct box box = pod_up();
    struct crate c = {
        .command = {"sh", "-c",
                    "head -c 40000 /dev/zero | busybox tr '\\0' x; echo; head -c 16384 /dev/zero | busybox tr '\\0' y; echo; printf 'no newline'"}};
    crate_start(&box, &c);
    assert_int_equal(wait_exit(c.id).status, 0);
    cleanup_free char *log = log_of(&c);
    cleanup_strv struct strv lines = {0};
    strv_split(&lines, log, '\n', true);
    assert_int_equal(lines.count, 5);
    assert_int_equal(strlen(lines.items[0]), 9 + 16384);
    assert_true(str_starts(lines.items[0], "stdout P xxx") && str_starts(lines.items[1], "stdout P xxx") &&
                str_starts(lines.items[2], "stdout F xxx"));
    assert_int_equal(strlen(lines.items[2]), 9 + 40000 - 2 * 16384);
    assert_true(str_starts(lines.items[3], "stdout F yyy"));
    assert_int_equal(strlen(lines.items[3]), 9 + 16384);
    assert_string_equal(lines.items[4], "stdout P no newline");
    crate_delete(&box, &c);
    pod_down(&box);
}

static void
a_prompt_without_newline_is_shown(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    struct box box = pod_up();
    struct crate c = {.command = {"sh", "-c", "printf 'name: '; sleep 1000"}};
    crate_start(&box, &c);
    wait_log(&c, "stdout P name: \n");
    must(link_kill(box.link, c.id, &err), &err);
    (void)wait_exit(c.id);
    crate_delete(&box, &c);
    pod_down(&box);
}

static void
rotation_loses_no_line(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    struct box box = pod_up();
    struct crate c = {.command = {"sh", "-c", "seq 1 400000"}};
    crate_start(&box, &c);
    int rotations = 0;
    struct exit_report report;
    cleanup_buf struct buf all = BUF(256 << 20);
    while (!exit_seen(c.id, &report) && rotations < 400) {
        assert_int_equal(rename(at("containers/%s/log", c.id), at("containers/%s/log.%d", c.id, rotations++)), 0);
        must(link_reopen_log(box.link, c.id, &err), &err);
        pause_ms(3);
    }
    (void)wait_exit(c.id);
    for (int i = 0; i <= rotations; i++) {
        cleanup_free char *part = i < rotations ? log_records(at("containers/%s/log.%d", c.id, i)) : log_of(&c);
        (void)buf_adds(&all, part);
    }
    long expected = 0;
    for (char *line = all.data; *line; line = strchr(line, '\n') + 1)
        assert_int_equal(strtol(line + strlen("stdout F "), NULL, 10), ++expected);
    assert_int_equal(expected, 400000);
    assert_true(rotations > 3);
    crate_delete(&box, &c);
    pod_down(&box);
}

static void
a_terminal_is_the_containers_own(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct box box = pod_up();
    struct crate c = {.command = {"sh", "-c", "tty; ls -l /dev/console; stty size; echo err >&2"}, .tty = true, .stdin_open = true};
    crate_start(&box, &c);
    assert_int_equal(wait_exit(c.id).status, 0);
    cleanup_free char *log = log_of(&c);
    assert_non_null(strstr(log, "stdout F /dev/pts/0\r\n"));
    assert_non_null(strstr(log, "crw--w----"));
    assert_non_null(strstr(log, "stdout F err\r\n"));
    assert_null(strstr(log, "stderr"));
    crate_delete(&box, &c);
    pod_down(&box);
}

static void
another_user_can_open_stdout_again_and_has_no_rights(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct box box = pod_up();
    struct crate c = {.command = {"sh", "-c",
                                  "id -u; echo again > /dev/stdout; grep -E 'Cap(Eff|Prm|Bnd)' /proc/self/status; touch /proc/sys/x; cat /proc/kcore "
                                  "| wc -c; ls /proc/scsi | wc -l"},
                      .uid = 1234};
    crate_start(&box, &c);
    assert_int_equal(wait_exit(c.id).status, 0);
    cleanup_free char *log = log_of(&c);
    assert_non_null(strstr(log, "stdout F 1234\n"));
    assert_non_null(strstr(log, "stdout F again\n"));
    assert_non_null(strstr(log, "CapEff:\t0000000000000000\n"));
    assert_non_null(strstr(log, "CapBnd:\t00000000a80425fb\n"));
    crate_delete(&box, &c);
    pod_down(&box);
}

static void
containers_of_a_pod_share_its_shm_and_not_the_hosts(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct box box = pod_up();
    struct crate one = {.command = {"sh", "-c", "echo shared > /dev/shm/crisp-link-shm"}},
                 two = {.command = {"sh", "-c", "cat /dev/shm/crisp-link-shm; grep /dev/shm /proc/mounts"}};
    crate_start(&box, &one);
    assert_int_equal(wait_exit(one.id).status, 0);
    crate_start(&box, &two);
    assert_int_equal(wait_exit(two.id).status, 0);
    cleanup_free char *log = log_of(&two);
    assert_non_null(strstr(log, "stdout F shared\n"));
    assert_non_null(strstr(log, "size=65536k"));
    assert_int_not_equal(access("/dev/shm/crisp-link-shm", F_OK), 0);
    crate_delete(&box, &one);
    crate_delete(&box, &two);
    pod_down(&box);
}

static void
a_shared_pid_namespace_reaps_orphans(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    struct box box;
    int failed_op, status;
    struct spec_builder *b = pod_spec();
    must(spawn_with(&box, b, true, &failed_op, &err), &err);
    spec_free(b);
    struct crate one = {.command = {"sleep", "1000"}, .shared_pid = true},
                 two = {.command = {"sh", "-c", "(sleep 0.1 &) ; sleep 1000"}, .shared_pid = true};
    crate_start(&box, &one);
    crate_start(&box, &two);
    pause_ms(400);
    cleanup_buf struct buf output = BUF(1 << 16);
    must(run_in(&box, &one, (const char *const[]){"sh", "-c", "cat /proc/[0-9]*/stat; ls /proc/1/root; readlink /proc/1/exe", NULL}, NULL, &status,
                &output, &err),
         &err);
    assert_non_null(strstr(output.data, "1 (crisp-init) S"));
    assert_null(strstr(output.data, ") Z "));
    assert_null(strstr(output.data, "boot"));
    must(link_kill(box.link, two.id, &err), &err);
    assert_int_equal(wait_exit(two.id).status, 137);
    must(link_kill(box.link, one.id, &err), &err);
    assert_int_equal(wait_exit(one.id).status, 137);
    crate_delete(&box, &one);
    crate_delete(&box, &two);
    pod_down(&box);
}

static void
with_the_hosts_pids_the_rest_dies_with_the_first(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct box box = pod_up();
    struct crate c = {.command = {"sh", "-c", "sleep 1000 & sleep 0.2"}, .host_pid = true};
    crate_start(&box, &c);
    assert_int_equal(wait_exit(c.id).status, 0);
    crate_delete(&box, &c);
    pod_down(&box);
}

static void
a_new_crispd_finds_what_the_old_one_left(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    struct box box = pod_up();
    struct crate waits = {.command = {"true"}},
                 runs = {.command = {"sh", "-c", "i=0; while [ $i -lt 60 ]; do echo line $i; i=$((i+1)); sleep 0.01; done; exit 5"}},
                 ends = {.command = {"sh", "-c", "sleep 0.1; exit 4"}}, stays = {.command = {"sleep", "1000"}};
    int failed_op;
    must(crate_create(&box, &waits, &failed_op, &err), &err);
    crate_start(&box, &runs);
    crate_start(&box, &ends);
    crate_start(&box, &stays);
    hub_close(node.hub); /* crispd dies */
    struct exit_report unseen;
    for (int i = 0; i < 500 && !exit_record_read(node.containers_dir, ends.id, &unseen); i++)
        pause_ms(10);
    pause_ms(100);
    open_hub();
    struct link_container *containers = NULL;
    size_t count = 0;
    must(link_adopt(node.hub, box.id, node.state_dir, &box.identity, NULL, &box.link, &containers, &count, &err), &err);
    assert_int_equal(count, 4);
    for (size_t i = 0; i < count; i++) {
        if (str_eq(containers[i].id, waits.id))
            assert_int_equal(containers[i].state, LINK_CREATED);
        if (str_eq(containers[i].id, stays.id))
            assert_int_equal(containers[i].state, LINK_RUNNING);
        if (str_eq(containers[i].id, ends.id)) {
            assert_int_equal(containers[i].state, LINK_EXITED);
            assert_int_equal(containers[i].exit.status, 4);
        }
    }
    free(containers);
    assert_int_equal(wait_exit(runs.id).status, 5);
    cleanup_free char *log = log_of(&runs);
    for (int i = 0; i < 60; i++) {
        cleanup_free char *line = str_printf("stdout F line %d\n", i);
        assert_non_null(strstr(log, line));
    }
    int64_t started_ns;
    must(link_start(box.link, waits.id, &started_ns, &failed_op, &err), &err);
    assert_int_equal(wait_exit(waits.id).status, 0);
    int status;
    must(run_in(&box, &stays, (const char *const[]){"true", NULL}, NULL, &status, NULL, &err), &err);
    crate_delete(&box, &waits);
    crate_delete(&box, &runs);
    crate_delete(&box, &ends);
    must(link_kill(box.link, stays.id, &err), &err);
    assert_int_equal(wait_exit(stays.id).status, 137);
    crate_delete(&box, &stays);
    pod_down(&box);
}

static void
a_killed_monitor_is_seen_and_its_containers_die_with_it(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    struct box box = pod_up();
    struct crate runs = {.command = {"sleep", "1000"}}, waits = {.command = {"true"}};
    int failed_op;
    crate_start(&box, &runs);
    must(crate_create(&box, &waits, &failed_op, &err), &err);
    int before = node.lost;
    assert_int_equal(kill(box.identity.pid, SIGKILL), 0);
    for (int i = 0; i < 200 && node.lost == before; i++)
        pause_ms(5);
    assert_int_equal(node.lost, before + 1);
    assert_int_equal(link_kill(box.link, runs.id, &err), -1);
    assert_int_equal(err.kind, ERR_UNAVAILABLE);
    assert_false(process_is(&box.identity));
    link_free(box.link);
    crate_gone(&runs); /* its cgroup empties without anybody's help */
    crate_gone(&waits);
    (void)unlink(at("state/%s.sock", box.id));
}

static void
a_pod_that_ends_takes_its_containers_along(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct box box = pod_up();
    struct crate runs = {.command = {"sh", "-c", "echo started; sleep 1000"}}, waits = {.command = {"true"}};
    struct error err = {0};
    int failed_op;
    crate_start(&box, &runs);
    must(crate_create(&box, &waits, &failed_op, &err), &err);
    wait_log(&runs, "started");
    pod_down(&box);
    struct exit_report report;
    assert_true(exit_record_read(node.containers_dir, runs.id, &report));
    assert_int_equal(report.status, 137);
    crate_gone(&runs);
    crate_gone(&waits);
}

static void
a_log_that_cannot_be_opened_fails_the_creation(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    int failed_op;
    struct box box = pod_up();
    struct crate c = {.command = {"true"}, .log = "/var/tmp/crisp-no-such-dir/0.log"};
    assert_int_equal(crate_create(&box, &c, &failed_op, &err), -1);
    assert_int_equal(err.errnum, ENOENT);
    assert_non_null(strstr(err.message, "/var/tmp/crisp-no-such-dir/0.log"));
    crate_gone(&c);
    pod_down(&box);
}

/* A directory that the container's spec needs, made after the init had time to come and look. */
static int
make_source(void *arg)
{
    pause_ms(50);
    return mkdir(arg, 0755);
}

static void
the_init_waits_for_what_is_made_meanwhile(void **state)
{
    (void)state;
    NEEDS_ROOT();
    cleanup_free char *source = str_dup(at("late"));
    struct box box = pod_up();
    struct crate c = {.command = {"sleep", "100"}, .bind_source = source, .bind_target = "/late", .meanwhile = make_source, .arg = source};
    crate_start(&box, &c);
    struct error err = {0};
    must(link_kill(box.link, c.id, &err), &err);
    (void)wait_exit(c.id);
    crate_delete(&box, &c);
    pod_down(&box);
    assert_int_equal(rmdir(source), 0);
}

static int
make_nothing(void *arg)
{
    (void)arg;
    return -1;
}

static void
what_cannot_be_made_meanwhile_fails_the_creation(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    int failed_op;
    struct box box = pod_up();
    struct crate c = {.command = {"true"}, .meanwhile = make_nothing};
    assert_int_equal(crate_create(&box, &c, &failed_op, &err), -1);
    assert_int_equal(failed_op, 0);
    assert_int_equal(err.errnum, ECANCELED);
    crate_gone(&c);
    pod_down(&box);
}

static int
kill_init(void *arg)
{
    const struct crate *c = arg;
    struct error err = {0};
    cleanup_free char *file = str_printf("%s/%s/cgroup.kill", node.cgroup, c->id);
    pause_ms(50);
    must(file_put(AT_FDCWD, file, "1", &err), &err);
    pause_ms(50);
    return 0;
}

static void
an_init_that_dies_meanwhile_fails_the_creation(void **state)
{
    (void)state;
    NEEDS_ROOT();
    struct error err = {0};
    int failed_op;
    struct box box = pod_up();
    struct crate c = {.command = {"true"}, .meanwhile = kill_init, .arg = &c};
    assert_int_equal(crate_create(&box, &c, &failed_op, &err), -1);
    assert_non_null(strstr(err.message, "before it was created"));
    crate_gone(&c);
    pod_down(&box);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_container_runs_writes_its_log_and_ends),
        cmocka_unit_test(a_missing_command_is_named_with_its_errno),
        cmocka_unit_test(a_mount_that_fails_is_named_and_leaves_nothing),
        cmocka_unit_test(a_pod_that_cannot_be_made_leaves_no_monitor),
        cmocka_unit_test(a_command_runs_in_a_container_and_its_tree_dies_at_the_deadline),
        cmocka_unit_test(attached_clients_hear_a_container_and_each_leaves_alone),
        cmocka_unit_test(a_client_that_reads_nothing_is_detached),
        cmocka_unit_test(a_signal_reaches_init),
        cmocka_unit_test(long_lines_are_cut_and_unfinished_ones_marked),
        cmocka_unit_test(a_prompt_without_newline_is_shown),
        cmocka_unit_test(rotation_loses_no_line),
        cmocka_unit_test(a_terminal_is_the_containers_own),
        cmocka_unit_test(another_user_can_open_stdout_again_and_has_no_rights),
        cmocka_unit_test(containers_of_a_pod_share_its_shm_and_not_the_hosts),
        cmocka_unit_test(a_shared_pid_namespace_reaps_orphans),
        cmocka_unit_test(with_the_hosts_pids_the_rest_dies_with_the_first),
        cmocka_unit_test(a_new_crispd_finds_what_the_old_one_left),
        cmocka_unit_test(a_killed_monitor_is_seen_and_its_containers_die_with_it),
        cmocka_unit_test(a_pod_that_ends_takes_its_containers_along),
        cmocka_unit_test(a_log_that_cannot_be_opened_fails_the_creation),
        cmocka_unit_test(the_init_waits_for_what_is_made_meanwhile),
        cmocka_unit_test(what_cannot_be_made_meanwhile_fails_the_creation),
        cmocka_unit_test(an_init_that_dies_meanwhile_fails_the_creation),
    };
    return cmocka_run_group_tests(tests, node_up, node_down);
}
