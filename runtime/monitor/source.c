#include "runtime/monitor/source.h"

#include <sys/epoll.h>
#include <unistd.h>

#include "runtime/monitor/monitor.h"

void
source_open(struct monitor *m, struct source *source, int fd, void (*ready)(struct monitor *m, struct source *source))
{
    source_open_for(m, source, fd, EPOLLIN, ready);
}

void
source_open_for(struct monitor *m, struct source *source, int fd, uint32_t events, void (*ready)(struct monitor *m, struct source *source))
{
    *source = (struct source){.ready = ready, .fd = fd, .events = events};
    source_resume(m, source);
}

void
source_wait_for(struct monitor *m, struct source *source, uint32_t events)
{
    if (source->watched && source->events == events)
        return;
    source_pause(m, source);
    source->events = events;
    source_resume(m, source);
}

void
source_pause(struct monitor *m, struct source *source)
{
    if (source->watched)
        (void)epoll_ctl(m->epoll, EPOLL_CTL_DEL, source->fd, NULL);
    source->watched = false;
}

void
source_resume(struct monitor *m, struct source *source)
{
    if (source->watched || source->fd < 0)
        return;
    struct epoll_event event = {.events = source->events, .data.ptr = source};
    source->watched = epoll_ctl(m->epoll, EPOLL_CTL_ADD, source->fd, &event) == 0;
}

void
source_close(struct monitor *m, struct source *source)
{
    source_pause(m, source);
    if (source->fd >= 0)
        (void)close(source->fd);
    source->fd = -1;
}
