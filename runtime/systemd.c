#include "runtime/systemd.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <systemd/sd-bus.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

static const int64_t patience_ns = 30 * NS_PER_SECOND, first_delay_ns = NS_PER_SECOND / 10, last_delay_ns = 5 * NS_PER_SECOND;

#define MANAGER "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"

/* What we use of libsystemd. */
#define FUNCTIONS(X)                   \
    X(sd_bus_open_system)              \
    X(sd_bus_new)                      \
    X(sd_bus_set_address)              \
    X(sd_bus_start)                    \
    X(sd_bus_get_fd)                   \
    X(sd_bus_get_events)               \
    X(sd_bus_get_timeout)              \
    X(sd_bus_process)                  \
    X(sd_bus_close_unref)              \
    X(sd_bus_match_signal)             \
    X(sd_bus_call_async)               \
    X(sd_bus_message_new_method_call)  \
    X(sd_bus_message_append)           \
    X(sd_bus_message_append_array)     \
    X(sd_bus_message_open_container)   \
    X(sd_bus_message_close_container)  \
    X(sd_bus_message_read)             \
    X(sd_bus_message_get_error)        \
    X(sd_bus_message_get_cookie)       \
    X(sd_bus_message_get_reply_cookie) \
    X(sd_bus_message_unref)

struct library {
    void *handle;
#define POINTER(name) __typeof__(&name) name;
    FUNCTIONS(POINTER)
#undef POINTER
};

/* One call of the manager, on the stack of who waits for it. */
struct order {
    struct order *next;
    uint64_t cookie; /* of its message */
    const char *method, *unit;
    const struct unit_property *properties;
    size_t count;
    bool waits_for_job;
    enum { NEW, SENT, QUEUED /* its job is */, DONE } state;
    char job[96];
    struct error failed; /* of one that failed; its message is empty where none did */
};

struct systemd {
    struct library lib;
    pthread_t thread;
    int wake; /* eventfd */
    /* the thread's alone */
    sd_bus *bus;
    int64_t delay_ns, next_try_ns;

    pthread_mutex_t lock;
    pthread_cond_t done;
    bool closing;         /* [lock] */
    struct order *orders; /* [lock] those not done */
};

/* ---- orders, with the lock held ---- */

static struct order *
find(struct systemd *s, uint64_t cookie)
{
    for (struct order *o = s->orders; o; o = o->next)
        if (o->state == SENT && o->cookie == cookie)
            return o;
    return NULL;
}

static void
take_out(struct systemd *s, const struct order *order)
{
    for (struct order **at = &s->orders; *at; at = &(*at)->next)
        if (*at == order) {
            *at = order->next;
            return;
        }
}

static void
finish(struct systemd *s, struct order *order)
{
    take_out(s, order);
    order->state = DONE;
    (void)pthread_cond_broadcast(&s->done);
}

static void
fail_sent(struct systemd *s, const char *why)
{
    (void)pthread_mutex_lock(&s->lock);
    for (struct order *o = s->orders, *next; o; o = next) {
        next = o->next;
        if (o->state == NEW)
            continue;
        (void)error_set(&o->failed, ERR_UNAVAILABLE, "the connection to systemd was lost: %s", why);
        finish(s, o);
    }
    (void)pthread_mutex_unlock(&s->lock);
}

/* ---- answers; in the thread ---- */

static void
translate(const sd_bus_error *said, struct error *err)
{
    enum error_kind kind = ERR_INTERNAL;
    if (str_eq(said->name, SD_BUS_ERROR_INVALID_ARGS))
        kind = ERR_INVALID;
    if (str_eq(said->name, SD_BUS_ERROR_NO_REPLY) || str_eq(said->name, SD_BUS_ERROR_TIMEOUT) || str_eq(said->name, SD_BUS_ERROR_SERVICE_UNKNOWN))
        kind = ERR_UNAVAILABLE;
    if (str_eq(said->name, "org.freedesktop.systemd1.UnitExists"))
        kind = ERR_EXISTS;
    (void)error_set(err, kind, "systemd: %s", said->message ? said->message : said->name);
}

static int
answered(sd_bus_message *answer, void *arg, sd_bus_error *ignored)
{
    struct systemd *s = arg;
    uint64_t cookie = 0;
    const sd_bus_error *error = s->lib.sd_bus_message_get_error(answer);
    const char *job = "";
    (void)ignored;
    (void)s->lib.sd_bus_message_get_reply_cookie(answer, &cookie);
    (void)pthread_mutex_lock(&s->lock);
    struct order *o = find(s, cookie);
    if (o && error)
        translate(error, &o->failed);
    if (o && !error && o->waits_for_job && s->lib.sd_bus_message_read(answer, "o", &job) >= 0) {
        o->state = QUEUED;
        (void)snprintf(o->job, sizeof o->job, "%s", job);
    } else if (o)
        finish(s, o);
    (void)pthread_mutex_unlock(&s->lock);
    return 0;
}

static int
job_removed(sd_bus_message *signal, void *arg, sd_bus_error *ignored)
{
    struct systemd *s = arg;
    uint32_t id;
    const char *job, *unit, *result;
    (void)ignored;
    if (s->lib.sd_bus_message_read(signal, "uoss", &id, &job, &unit, &result) < 0)
        return 0;
    (void)pthread_mutex_lock(&s->lock);
    for (struct order *o = s->orders, *next; o; o = next) {
        next = o->next;
        if (o->state != QUEUED || !str_eq(o->job, job))
            continue;
        if (!str_eq(result, "done"))
            (void)error_set(&o->failed, ERR_INTERNAL, "systemd: the job for %s ended as \"%s\"", unit, result);
        finish(s, o);
    }
    (void)pthread_mutex_unlock(&s->lock);
    return 0;
}

/* ---- messages; in the thread ---- */

/* "/dev/char/1:3", "char-136", "char-*" (systemd.resource-control(5), DeviceAllow=). */
static int
append_device(const struct library *lib, sd_bus_message *m, const struct device_rule *rule)
{
    const char *type = rule->type == 'b' ? "block" : "char";
    char node[64];
    if (rule->major < 0)
        (void)snprintf(node, sizeof node, "%s-*", type);
    else if (rule->minor < 0)
        (void)snprintf(node, sizeof node, "%s-%lld", type, (long long)rule->major);
    else
        (void)snprintf(node, sizeof node, "/dev/%s/%lld:%lld", type, (long long)rule->major, (long long)rule->minor);
    return lib->sd_bus_message_append(m, "(ss)", node, rule->access);
}

static int
append_array(const struct library *lib, sd_bus_message *m, const struct unit_property *p)
{
    const char *type = p->type == UNIT_BYTES ? "ay" : "a(ss)";
    int r = lib->sd_bus_message_open_container(m, 'r', "sv");
    r = r < 0 ? r : lib->sd_bus_message_append(m, "s", p->name);
    r = r < 0 ? r : lib->sd_bus_message_open_container(m, 'v', type);
    if (r >= 0 && p->type == UNIT_BYTES)
        r = lib->sd_bus_message_append_array(m, 'y', p->bytes, p->number);
    else if (r >= 0) {
        r = lib->sd_bus_message_open_container(m, 'a', "(ss)");
        for (size_t i = 0; r >= 0 && i < p->device_count; i++)
            r = append_device(lib, m, &p->devices[i]);
        r = r < 0 ? r : lib->sd_bus_message_close_container(m);
    }
    r = r < 0 ? r : lib->sd_bus_message_close_container(m);
    return r < 0 ? r : lib->sd_bus_message_close_container(m);
}

static int
append_property(const struct library *lib, sd_bus_message *m, const struct unit_property *p)
{
    switch (p->type) {
    case UNIT_TEXT:
        return lib->sd_bus_message_append(m, "(sv)", p->name, "s", p->text);
    case UNIT_FLAG:
        return lib->sd_bus_message_append(m, "(sv)", p->name, "b", (int)p->number);
    case UNIT_NUMBER:
        return lib->sd_bus_message_append(m, "(sv)", p->name, "t", p->number);
    case UNIT_PID:
        return lib->sd_bus_message_append(m, "(sv)", p->name, "au", 1, (uint32_t)p->number);
    case UNIT_BYTES:
    case UNIT_DEVICES:
        break;
    }
    return append_array(lib, m, p);
}

static int
append_properties(const struct library *lib, sd_bus_message *m, const struct order *o)
{
    int r = lib->sd_bus_message_open_container(m, 'a', "(sv)");
    for (size_t i = 0; r >= 0 && i < o->count; i++)
        r = append_property(lib, m, &o->properties[i]);
    return r < 0 ? r : lib->sd_bus_message_close_container(m);
}

static int
append_arguments(const struct library *lib, sd_bus_message *m, const struct order *o)
{
    int r = lib->sd_bus_message_append(m, "s", o->unit);
    if (str_eq(o->method, "StartTransientUnit")) {
        r = r < 0 ? r : lib->sd_bus_message_append(m, "s", "replace");
        r = r < 0 ? r : append_properties(lib, m, o);
        return r < 0 ? r : lib->sd_bus_message_append(m, "a(sa(sv))", 0);
    }
    if (str_eq(o->method, "SetUnitProperties")) {
        r = r < 0 ? r : lib->sd_bus_message_append(m, "b", 1);
        return r < 0 ? r : append_properties(lib, m, o);
    }
    return r < 0 || !str_eq(o->method, "StopUnit") ? r : lib->sd_bus_message_append(m, "s", "replace");
}

static int
send_order(struct systemd *s, struct order *o)
{
    sd_bus_message *m = NULL;
    int r = s->lib.sd_bus_message_new_method_call(s->bus, &m, MANAGER, o->method);
    r = r < 0 ? r : append_arguments(&s->lib, m, o);
    r = r < 0 ? r : s->lib.sd_bus_call_async(s->bus, NULL, m, answered, s, 0);
    r = r < 0 ? r : s->lib.sd_bus_message_get_cookie(m, &o->cookie);
    s->lib.sd_bus_message_unref(m);
    return r;
}

/* What an order holds stays while it is in the list: who waits for it takes it out under the lock. */
static void
send_orders(struct systemd *s)
{
    (void)pthread_mutex_lock(&s->lock);
    for (struct order *o = s->orders, *next; o; o = next) {
        next = o->next;
        if (o->state != NEW)
            continue;
        o->state = SENT;
        int r = send_order(s, o);
        if (r < 0) {
            (void)error_errno(&o->failed, -r, "systemd: %s of %s", o->method, o->unit);
            finish(s, o);
        }
    }
    (void)pthread_mutex_unlock(&s->lock);
}

/* ---- the connection; in the thread ---- */

static int
open_private(struct systemd *s)
{
    int r = s->lib.sd_bus_new(&s->bus);
    r = r < 0 ? r : s->lib.sd_bus_set_address(s->bus, "unix:path=/run/systemd/private");
    return r < 0 ? r : s->lib.sd_bus_start(s->bus);
}

static void
disconnect(struct systemd *s, int errnum)
{
    const char *why = strerrordesc_np(errnum);
    s->bus = s->lib.sd_bus_close_unref(s->bus);
    s->next_try_ns = clock_monotonic_ns() + s->delay_ns;
    s->delay_ns = 2 * s->delay_ns < last_delay_ns ? 2 * s->delay_ns : last_delay_ns;
    fail_sent(s, why ? why : "unknown error");
}

/* Signals come over the bus to those only who subscribe; over systemd's own socket to all, and it does not know the bus' names. */
static void
connect_now(struct systemd *s)
{
    sd_bus_message *m = NULL;
    int r = s->lib.sd_bus_open_system(&s->bus);
    bool over_bus = r >= 0;
    if (!over_bus)
        r = open_private(s);
    r = r < 0 ? r
              : s->lib.sd_bus_match_signal(s->bus, NULL, NULL, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "JobRemoved",
                                           job_removed, s);
    if (r >= 0 && over_bus) {
        r = s->lib.sd_bus_message_new_method_call(s->bus, &m, MANAGER, "Subscribe");
        r = r < 0 ? r : s->lib.sd_bus_call_async(s->bus, NULL, m, NULL, NULL, 0);
        s->lib.sd_bus_message_unref(m);
    }
    if (r < 0) {
        log_warn("no connection to systemd", "error", strerrordesc_np(-r));
        disconnect(s, -r);
    }
}

static bool
has_orders(struct systemd *s)
{
    (void)pthread_mutex_lock(&s->lock);
    bool some = s->orders != NULL;
    (void)pthread_mutex_unlock(&s->lock);
    return some;
}

static int
to_ms(int64_t ns)
{
    return ns <= 0 ? 0 : (int)(ns / NS_PER_MS) + 1;
}

static void
wait_unconnected(struct systemd *s)
{
    uint64_t ignored;
    int timeout = has_orders(s) ? to_ms(s->next_try_ns - clock_monotonic_ns()) : -1;
    struct pollfd p = {.fd = s->wake, .events = POLLIN};
    if (timeout != 0 && poll(&p, 1, timeout) > 0)
        (void)eventfd_read(s->wake, &ignored);
    if (has_orders(s) && clock_monotonic_ns() >= s->next_try_ns)
        connect_now(s);
}

static void
wait_connected(struct systemd *s)
{
    uint64_t at_us = UINT64_MAX, ignored;
    struct pollfd p[] = {{.fd = s->lib.sd_bus_get_fd(s->bus), .events = (short)s->lib.sd_bus_get_events(s->bus)}, {.fd = s->wake, .events = POLLIN}};
    (void)s->lib.sd_bus_get_timeout(s->bus, &at_us);
    (void)poll(p, 2, at_us == UINT64_MAX ? -1 : to_ms((int64_t)at_us * 1000 - clock_monotonic_ns()));
    if (p[1].revents)
        (void)eventfd_read(s->wake, &ignored);
}

static void
serve(struct systemd *s)
{
    send_orders(s);
    int r = s->lib.sd_bus_process(s->bus, NULL);
    if (r < 0)
        disconnect(s, -r);
    else if (r > 0)
        s->delay_ns = first_delay_ns;
    else
        wait_connected(s);
}

static void *
run(void *arg)
{
    struct systemd *s = arg;
    for (;;) {
        (void)pthread_mutex_lock(&s->lock);
        bool closing = s->closing;
        (void)pthread_mutex_unlock(&s->lock);
        if (closing)
            break;
        if (s->bus)
            serve(s);
        else
            wait_unconnected(s);
    }
    s->lib.sd_bus_close_unref(s->bus);
    return NULL;
}

/* ---- life ---- */

static int
load_library(struct library *lib, struct error *err)
{
    lib->handle = dlopen("libsystemd.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!lib->handle)
        return error_set(err, ERR_UNSUPPORTED, "cgroup driver systemd: %s", dlerror());
#define LOAD(name)                                    \
    *(void **)&lib->name = dlsym(lib->handle, #name); \
    if (!lib->name)                                   \
        return error_set(err, ERR_UNSUPPORTED, "cgroup driver systemd: libsystemd.so.0 is too old: it has no " #name);
    FUNCTIONS(LOAD)
#undef LOAD
    return 0;
}

int
systemd_open(struct systemd **out, struct error *err)
{
    if (access("/run/systemd/system", F_OK) < 0)
        return error_set(err, ERR_UNSUPPORTED, "cgroup driver systemd: systemd does not run this machine");
    struct systemd *s = mem_zalloc(1, sizeof *s);
    s->delay_ns = first_delay_ns;
    s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&s->done, &monotonic);
    (void)pthread_mutex_init(&s->lock, NULL);
    int errnum = 0;
    int result = s->wake < 0 ? error_errno(err, errno, "eventfd") : load_library(&s->lib, err);
    if (result == 0 && (errnum = pthread_create(&s->thread, NULL, run, s)) != 0)
        result = error_errno(err, errnum, "start a thread");
    if (result == 0) {
        *out = s;
        return 0;
    }
    if (s->wake >= 0)
        (void)close(s->wake);
    free(s);
    return -1;
}

void
systemd_close(struct systemd *s)
{
    if (!s)
        return;
    (void)pthread_mutex_lock(&s->lock);
    s->closing = true;
    (void)pthread_mutex_unlock(&s->lock);
    (void)eventfd_write(s->wake, 1);
    (void)pthread_join(s->thread, NULL);
    (void)pthread_mutex_destroy(&s->lock);
    (void)pthread_cond_destroy(&s->done);
    (void)close(s->wake);
    free(s);
}

/* ---- calls ---- */

static int
call(struct systemd *s, struct order *o, struct error *err)
{
    int64_t until = clock_monotonic_ns() + patience_ns;
    const struct timespec ts = {.tv_sec = until / NS_PER_SECOND, .tv_nsec = until % NS_PER_SECOND};
    int errnum = 0;
    (void)pthread_mutex_lock(&s->lock);
    o->next = s->orders;
    s->orders = o;
    (void)eventfd_write(s->wake, 1);
    while (o->state != DONE && errnum == 0)
        errnum = pthread_cond_timedwait(&s->done, &s->lock, &ts);
    bool done = o->state == DONE;
    if (!done)
        take_out(s, o);
    (void)pthread_mutex_unlock(&s->lock);
    if (!done)
        return error_set(err, ERR_UNAVAILABLE, "systemd has not answered %s of %s for %lld s", o->method, o->unit,
                         (long long)(patience_ns / NS_PER_SECOND));
    if (!*o->failed.message)
        return 0;
    if (err)
        *err = o->failed;
    return -1;
}

int
systemd_start(struct systemd *s, const char *unit, const struct unit_property *properties, size_t count, struct error *err)
{
    struct order start = {.method = "StartTransientUnit", .unit = unit, .properties = properties, .count = count, .waits_for_job = true};
    struct order again = start, reset = {.method = "ResetFailedUnit", .unit = unit};
    struct error failed = {0};
    if (call(s, &start, &failed) == 0)
        return 0;
    if (failed.kind == ERR_EXISTS && call(s, &reset, NULL) == 0)
        return call(s, &again, err);
    if (err)
        *err = failed;
    return -1;
}

int
systemd_set(struct systemd *s, const char *unit, const struct unit_property *properties, size_t count, struct error *err)
{
    return count ? call(s, &(struct order){.method = "SetUnitProperties", .unit = unit, .properties = properties, .count = count}, err) : 0;
}

void
systemd_stop(struct systemd *s, const char *unit)
{
    (void)call(s, &(struct order){.method = "StopUnit", .unit = unit}, NULL);
}
