#include "runtime/hub.h"

#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "runtime/spawn.h"

/* epoll's data: a link's number and, in the lowest bit, which of its two fds. Numbers begin at 1, so that all zero is left for hub->stop. */
enum { SOURCE_SOCKET, SOURCE_PIDFD, SOURCE_STOP = 0 };

void
link_unref(struct link *link)
{
    (void)pthread_mutex_lock(&link->lock);
    bool last = --link->references == 0;
    (void)pthread_mutex_unlock(&link->lock);
    if (!last)
        return;
    (void)close(link->pidfd);
    (void)close(link->socket);
    (void)pthread_mutex_destroy(&link->lock);
    (void)pthread_cond_destroy(&link->ended);
    free(link);
}

static struct link *
hub_find(struct hub *hub, uint64_t number)
{
    (void)pthread_mutex_lock(&hub->lock);
    struct link *link = hub->links;
    while (link && link->number != number)
        link = link->next;
    if (link) {
        (void)pthread_mutex_lock(&link->lock);
        link->references++;
        (void)pthread_mutex_unlock(&link->lock);
    }
    (void)pthread_mutex_unlock(&hub->lock);
    return link;
}

static void
watch(struct hub *hub, const struct link *link, int fd, unsigned source)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = link->number << 1 | source};
    (void)epoll_ctl(hub->epoll, EPOLL_CTL_ADD, fd, &event);
}

struct link *
hub_add(struct hub *hub, const char *pod_id, pid_t pid, int pidfd, int socket)
{
    struct link *link = mem_zalloc(1, sizeof *link);
    (void)snprintf(link->pod_id, sizeof link->pod_id, "%s", pod_id);
    link->hub = hub;
    link->pid = pid;
    link->pidfd = pidfd;
    link->socket = socket;
    link->references = 2; /* the owner's and the list's */
    (void)pthread_mutex_init(&link->lock, NULL);
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&link->ended, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    (void)pthread_mutex_lock(&hub->lock);
    link->number = ++hub->last_number;
    link->next = hub->links;
    hub->links = link;
    (void)pthread_mutex_unlock(&hub->lock);
    watch(hub, link, socket, SOURCE_SOCKET);
    watch(hub, link, pidfd, SOURCE_PIDFD);
    return link;
}

void
hub_remove(struct link *link)
{
    struct hub *hub = link->hub;
    bool found = false;
    (void)pthread_mutex_lock(&hub->lock);
    for (struct link **at = &hub->links; *at; at = &(*at)->next)
        if (*at == link) {
            *at = link->next;
            found = true;
            break;
        }
    (void)pthread_mutex_unlock(&hub->lock);
    if (!found)
        return;
    (void)epoll_ctl(hub->epoll, EPOLL_CTL_DEL, link->socket, NULL);
    (void)epoll_ctl(hub->epoll, EPOLL_CTL_DEL, link->pidfd, NULL);
    link_unref(link);
}

/* What the monitor says. */

/* Wakes the call it is for. `readable` is false of one that is malformed, or of another version. */
static void
hand_answer(struct link *link, const struct message *answer, bool readable)
{
    (void)pthread_mutex_lock(&link->lock);
    for (struct call **at = &link->calls; *at; at = &(*at)->next) {
        struct call *call = *at;
        if (call->serial != answer->serial)
            continue;
        *at = call->next;
        call->answered = readable;
        call->unread = !readable;
        if (readable) {
            call->answer->type = answer->type;
            call->answer->serial = answer->serial;
            call->answer->length = answer->length;
            call->answer->fd_count = 0;
            memcpy(call->answer->data, answer->data, answer->length);
        }
        (void)eventfd_write(call->wake, 1);
        break;
    }
    (void)pthread_mutex_unlock(&link->lock);
}

static void
tell_exited(const struct link *link, const struct message *m)
{
    const struct hub_options *options = &link->hub->options;
    struct exit_report report = {
        .status = (int)message_i64(m, TAG_STATUS),
        .oom_killed = message_u64(m, TAG_OOM) != 0,
        .finished_ns = message_i64(m, TAG_FINISHED_NS),
    };
    if (options->exited)
        options->exited(options->arg, link->pod_id, message_string(m, TAG_ID), &report);
}

static void
handle_message(struct link *link, struct message *m)
{
    message_close_fds(m);
    if (m->type == PROTOCOL_ANSWER)
        hand_answer(link, m, true);
    else if (m->type == PROTOCOL_EXITED)
        tell_exited(link, m);
    else if (m->type == PROTOCOL_WARNING)
        log_warn(message_string(m, TAG_WORDS), "pod", link->pod_id, "container", message_string(m, TAG_ID), "error",
                 message_u64(m, TAG_ERRNUM) ? strerrordesc_np((int)message_u64(m, TAG_ERRNUM)) : NULL);
}

/* False when there is nothing more. */
static bool
receive_one(struct link *link)
{
    struct error err;
    int n = message_receive(link->socket, &link->hub->received, &err);
    bool unread = n < 0 && err.kind == ERR_INVALID;
    if (n > 0)
        handle_message(link, &link->hub->received);
    if (unread)
        hand_answer(link, &link->hub->received, false);
    /* Closed: its end is told by the pidfd, or it has taken a newer crispd; in either case nothing comes here any more. */
    if (n == 0)
        (void)epoll_ctl(link->hub->epoll, EPOLL_CTL_DEL, link->socket, NULL);
    return n > 0 || unread;
}

/* The monitor is dead: what it said last is heard first, then every waiting call ends. */
static void
handle_death(struct link *link)
{
    siginfo_t info;
    (void)epoll_ctl(link->hub->epoll, EPOLL_CTL_DEL, link->pidfd, NULL);
    while (receive_one(link))
        continue;
    (void)waitid(P_PIDFD, (id_t)link->pidfd, &info, WEXITED | WNOHANG | __WALL); /* a zombie of ours, if we started it */
    (void)pthread_mutex_lock(&link->lock);
    bool expected = link->state != LINK_UP;
    link->state = LINK_DEAD;
    for (struct call *call = link->calls; call; call = call->next)
        (void)eventfd_write(call->wake, 1);
    link->calls = NULL;
    (void)pthread_cond_broadcast(&link->ended);
    (void)pthread_mutex_unlock(&link->lock);
    const struct hub_options *options = &link->hub->options;
    if (!expected && options->lost)
        options->lost(options->arg, link->pod_id);
}

static void *
hub_thread(void *arg)
{
    struct hub *hub = arg;
    struct epoll_event event;
    for (;;) {
        int n = epoll_wait(hub->epoll, &event, 1, -1);
        if (n <= 0)
            continue;
        if (event.data.u64 == SOURCE_STOP)
            return NULL;
        struct link *link = hub_find(hub, event.data.u64 >> 1);
        if (!link)
            continue;
        if ((event.data.u64 & 1) == SOURCE_PIDFD)
            handle_death(link);
        else
            (void)receive_one(link);
        link_unref(link);
    }
}

static int
start(struct hub *hub, struct error *err)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = SOURCE_STOP};
    hub->program = TRY(spawn_program(hub->options.monitor_program, err));
    hub->epoll = epoll_create1(EPOLL_CLOEXEC);
    hub->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (hub->epoll < 0 || hub->stop < 0 || epoll_ctl(hub->epoll, EPOLL_CTL_ADD, hub->stop, &event) < 0)
        return error_errno(err, errno, "open the hub of monitors");
    int errnum = pthread_create(&hub->thread, NULL, hub_thread, hub);
    return errnum ? error_errno(err, errnum, "start the thread of the hub of monitors") : 0;
}

static void
hub_free(struct hub *hub)
{
    cleanup_closep(&hub->epoll);
    cleanup_closep(&hub->stop);
    cleanup_closep(&hub->program);
    (void)pthread_mutex_destroy(&hub->lock);
    free(hub);
}

int
hub_open(const struct hub_options *options, struct hub **out, struct error *err)
{
    struct hub *hub = mem_zalloc(1, sizeof *hub);
    hub->options = *options;
    hub->program = hub->epoll = hub->stop = -1;
    if (!hub->options.answer_timeout_ns)
        hub->options.answer_timeout_ns = HUB_ANSWER_TIMEOUT_NS;
    (void)pthread_mutex_init(&hub->lock, NULL);
    if (start(hub, err) < 0) {
        hub_free(hub);
        return -1;
    }
    *out = hub;
    return 0;
}

void
hub_close(struct hub *hub)
{
    if (!hub)
        return;
    (void)eventfd_write(hub->stop, 1);
    (void)pthread_join(hub->thread, NULL);
    while (hub->links) {
        struct link *link = hub->links;
        hub_remove(link);
        link_unref(link);
    }
    hub_free(hub);
}
