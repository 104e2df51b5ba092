#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/monitor/monitor.h"
#include "runtime/protocol.h"

/* crispd is gone: nobody reads its execs' output any more. Containers go on. */
static void
connection_lost(struct monitor *m)
{
    source_close(m, &m->connection);
    if (!m->has_pod)
        _exit(1);
    exec_kill_all(m);
}

static void
connection_ready(struct monitor *m, struct source *source)
{
    struct error err;
    int n = message_receive(source->fd, &m->request, &err);
    if (n > 0) {
        request_handle(m, &m->request);
        message_close_fds(&m->request);
    } else if (n < 0 && err.kind == ERR_INVALID) {
        struct asker asker = {.serial = m->request.serial, .connection = m->connection_number};
        (void)error_prefix(&err, "its monitor cannot read the request");
        answer_refusal(m, &asker, EBADMSG, err.message);
    } else if (n == 0 || err.errnum != EAGAIN) {
        connection_lost(m);
    }
}

void
connection_open(struct monitor *m, int fd)
{
    if (m->connection.fd >= 0)
        connection_lost(m);
    m->connection_number++;
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    source_open(m, &m->connection, fd, connection_ready);
}

/* The next crispd. The last to come is the one that counts: its predecessor is dead, or about to notice that it lost the lock. */
static void
listener_ready(struct monitor *m, struct source *source)
{
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t length = sizeof peer;
    int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0 || peer.uid != 0) {
        (void)close(fd);
        return;
    }
    connection_open(m, fd);
}

int
connection_listen(struct monitor *m)
{
    struct sockaddr_un address;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    protocol_address(&address, m->state_dir, m->pod_id);
    (void)unlink(address.sun_path);
    mode_t before = umask(0177);
    int errnum = bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 8) < 0 ? errno : 0;
    (void)umask(before);
    if (errnum)
        (void)close(fd);
    else
        source_open(m, &m->listener, fd, listener_ready);
    return errnum;
}

void
answer_begin(struct monitor *m, struct asker asker)
{
    message_begin(&m->answer, PROTOCOL_ANSWER, asker.serial);
}

void
answer_send(struct monitor *m, struct asker *asker)
{
    bool wanted = asker->serial && asker->connection == m->connection_number && m->connection.fd >= 0;
    *asker = (struct asker){0};
    if (!wanted)
        return;
    /* crispd that reads nothing while it asks: not one to go on with; it or the next connects again. */
    struct error err;
    if (message_send(m->connection.fd, &m->answer, &err) < 0)
        connection_lost(m);
}

void
answer_ok(struct monitor *m, struct asker *asker)
{
    answer_begin(m, *asker);
    answer_send(m, asker);
}

void
answer_error(struct monitor *m, struct asker *asker, int errnum, int failed_op, const char *step)
{
    answer_begin(m, *asker);
    message_put_u64(&m->answer, TAG_ERRNUM, (uint64_t)errnum);
    message_put_u64(&m->answer, TAG_FAILED_OP, (uint64_t)(failed_op + 1));
    message_put_string(&m->answer, TAG_WORDS, step);
    answer_send(m, asker);
}

void
answer_refusal(struct monitor *m, struct asker *asker, int errnum, const char *sentence)
{
    answer_begin(m, *asker);
    message_put_u64(&m->answer, TAG_ERRNUM, (uint64_t)errnum);
    message_put_string(&m->answer, TAG_REFUSAL, sentence);
    answer_send(m, asker);
}

bool
event_send(struct monitor *m)
{
    struct error err;
    /* Without a connection there is nobody to tell: the next crispd asks for LIST. */
    return m->connection.fd < 0 || message_send(m->connection.fd, &m->answer, &err) == 0 || err.errnum != EAGAIN;
}

void
warn(struct monitor *m, const char *id, const char *words, int errnum)
{
    message_begin(&m->answer, PROTOCOL_WARNING, 0);
    message_put_string(&m->answer, TAG_ID, id);
    message_put_string(&m->answer, TAG_WORDS, words);
    message_put_u64(&m->answer, TAG_ERRNUM, (uint64_t)errnum);
    (void)event_send(m);
}
