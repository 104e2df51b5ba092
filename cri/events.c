#include "cri/events.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "api.pb-c.h"
#include "cri/call.h"
#include "cri/convert.h"
#include "cri/handlers.h"
#include "cri/limits.h"

_Static_assert((int)CHANGE_CREATED == (int)RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_CREATED_EVENT &&
                   (int)CHANGE_STARTED == (int)RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_STARTED_EVENT &&
                   (int)CHANGE_STOPPED == (int)RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_STOPPED_EVENT &&
                   (int)CHANGE_DELETED == (int)RUNTIME__V1__CONTAINER_EVENT_TYPE__CONTAINER_DELETED_EVENT,
               "changes are numbered as CRI numbers events");

/* A change that several subscribers have queued. */
struct event {
    atomic_int references;
    struct change *change;
};

struct subscriber {
    struct subscriber *next, **link;
    struct call *call;
    int wake; /* eventfd, readable when something was queued */
    struct event *queue[EVENTS_WAITING_MAX];
    size_t first, count;
    bool lost; /* it did not keep up */
};

struct events {
    pthread_mutex_t lock; /* guards the list and every subscriber's queue; taken while the runtime's is held, and nothing is waited for under it */
    struct subscriber *subscribers;
    size_t count;
};

struct events *
events_new(void)
{
    struct events *events = mem_zalloc(1, sizeof *events);
    pthread_mutex_init(&events->lock, NULL);
    return events;
}

void
events_free(struct events *events)
{
    pthread_mutex_destroy(&events->lock);
    free(events);
}

static void
drop(struct event *event)
{
    if (atomic_fetch_sub(&event->references, 1) > 1)
        return;
    change_free(event->change);
    free(event);
}

/* ---- the runtime's side ---- */

/* With the lock held. The stream is broken off also where its thread waits for the reader to take something. */
static void
queue(struct subscriber *s, struct event *event)
{
    if (s->lost)
        return;
    if (s->count == EVENTS_WAITING_MAX) {
        s->lost = true;
        call_give_up(s->call);
        return;
    }
    atomic_fetch_add(&event->references, 1);
    s->queue[(s->first + s->count++) % EVENTS_WAITING_MAX] = event;
    (void)eventfd_write(s->wake, 1);
}

void
events_publish(void *arg, struct change *change)
{
    struct events *events = arg;
    struct event *event = mem_zalloc(1, sizeof *event);
    *event = (struct event){.references = 1, .change = change};
    pthread_mutex_lock(&events->lock);
    for (struct subscriber *s = events->subscribers; s; s = s->next)
        queue(s, event);
    pthread_mutex_unlock(&events->lock);
    drop(event);
}

/* ---- a subscriber's side ---- */

static int
subscribe(struct events *events, struct subscriber *s, struct error *err)
{
    pthread_mutex_lock(&events->lock);
    bool taken = events->count < EVENT_STREAMS_MAX;
    if (taken) {
        events->count++;
        s->next = events->subscribers;
        s->link = &events->subscribers;
        if (s->next)
            s->next->link = &s->next;
        events->subscribers = s;
    }
    pthread_mutex_unlock(&events->lock);
    return taken ? 0 : error_set(err, ERR_EXHAUSTED, "%d streams of events are open already", EVENT_STREAMS_MAX);
}

static void
unsubscribe(struct events *events, struct subscriber *s)
{
    pthread_mutex_lock(&events->lock);
    events->count--;
    *s->link = s->next;
    if (s->next)
        s->next->link = s->link;
    pthread_mutex_unlock(&events->lock);
    for (; s->count > 0; s->count--)
        drop(s->queue[s->first++ % EVENTS_WAITING_MAX]);
}

/* NULL: there is none. */
static struct event *
next_event(struct events *events, struct subscriber *s)
{
    pthread_mutex_lock(&events->lock);
    struct event *event = s->count ? s->queue[s->first] : NULL;
    if (event) {
        s->first = (s->first + 1) % EVENTS_WAITING_MAX;
        s->count--;
    }
    pthread_mutex_unlock(&events->lock);
    return event;
}

static Runtime__V1__ContainerEventResponse *
event_write(struct call *call, const struct change *change)
{
    const struct pod_snapshot *after = &change->after;
    Runtime__V1__ContainerEventResponse *out = answer_new(call, &runtime__v1__container_event_response__descriptor);
    out->container_id = change->id;
    out->container_event_type = (Runtime__V1__ContainerEventType)change->kind;
    out->created_at = after->time_ns;
    out->pod_sandbox_status = pod_status_write(call, &after->pod);
    out->containers_statuses = container_statuses_write(call, after->containers, after->container_count);
    out->n_containers_statuses = after->container_count;
    return out;
}

/* In memory of its own: the stream's would grow for ever. */
static int
send_event(struct call *stream, const struct event *event, struct error *err)
{
    struct call call = {.services = stream->services};
    const Runtime__V1__ContainerEventResponse *message = event_write(&call, event->change);
    int result = stream->send(stream, &message->base, err);
    call_end(&call);
    return result;
}

static int
send_all(struct events *events, struct subscriber *s, struct error *err)
{
    eventfd_t times;
    TRY(s->call->send(s->call, NULL, err));
    for (;;) {
        TRY(cancel_wait(s->call->cancel, s->wake, INT64_MAX, "waiting for events", err));
        (void)eventfd_read(s->wake, &times);
        for (struct event *event; (event = next_event(events, s));) {
            int sent = send_event(s->call, event, err);
            drop(event);
            TRY(sent);
        }
    }
}

int
events_get(struct call *call, const void *request, void *response, struct error *err)
{
    struct events *events = call->services->events;
    (void)request;
    (void)response;
    cleanup_close int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake < 0)
        return error_errno(err, errno, "eventfd");
    struct subscriber *s = call_alloc(call, sizeof *s);
    s->call = call;
    s->wake = wake;
    TRY(subscribe(events, s, err));
    int result = send_all(events, s, err);
    unsubscribe(events, s);
    return s->lost ? error_set(err, ERR_EXHAUSTED, "the reader of events is too slow: %d are waiting", EVENTS_WAITING_MAX) : result;
}
