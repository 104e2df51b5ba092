#include "runtime/records.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "runtime/configs.h"
#include "runtime/idmap.h"
#include "runtime/janitor.h"
#include "runtime/pod_steps.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define F(of_struct, member, kind)                                                          \
    {                                                                                       \
        .name = #member, .type = FIELD_##kind, .offset = offsetof(struct of_struct, member) \
    }

struct pod_record {
    int version, phase;
    char *id, *cgroup_parent, *reason, *boot_id;
    uint64_t sequence, start_ticks;
    int64_t created_ns;
    int monitor_pid;
    bool attached;
    struct strv ips;
    struct resources overhead, resources;
};

static const struct field pod_record_list[] = {
    {.name = "version", .type = FIELD_INT, .offset = offsetof(struct pod_record, version), .most = RECORD_VERSION},
    {.name = "phase", .type = FIELD_INT, .offset = offsetof(struct pod_record, phase), .most = POD_PHASE_NOTREADY},
    F(pod_record, id, STRING),
    F(pod_record, cgroup_parent, STRING),
    F(pod_record, reason, STRING),
    F(pod_record, boot_id, STRING),
    F(pod_record, sequence, U64),
    F(pod_record, start_ticks, U64),
    F(pod_record, created_ns, I64),
    F(pod_record, monitor_pid, INT),
    F(pod_record, attached, BOOL),
    F(pod_record, ips, STRV),
    {.name = "overhead", .type = FIELD_STRUCT, .offset = offsetof(struct pod_record, overhead), .of = &resources_fields},
    {.name = "resources", .type = FIELD_STRUCT, .offset = offsetof(struct pod_record, resources), .of = &resources_fields},
};
static const struct fields pod_record_fields = FIELDS(struct pod_record, pod_record_list);

struct container_record {
    int version, phase;
    char *id, *cgroup, *log_path, *reason, *message, *home, *filter, *profile, *label;
    uint64_t sequence;
    int64_t created_ns, started_ns, finished_ns, uid, gid;
    int exit_code, pid;
    struct strv groups;
    struct resources resources;
};

static const struct field container_record_list[] = {
    {.name = "version", .type = FIELD_INT, .offset = offsetof(struct container_record, version), .most = RECORD_VERSION},
    {.name = "phase", .type = FIELD_INT, .offset = offsetof(struct container_record, phase), .most = CONTAINER_PHASE_EXITED},
    F(container_record, id, STRING),
    F(container_record, cgroup, STRING),
    F(container_record, log_path, STRING),
    F(container_record, reason, STRING),
    F(container_record, message, STRING),
    F(container_record, home, STRING),
    F(container_record, filter, STRING),
    F(container_record, profile, STRING),
    F(container_record, label, STRING),
    F(container_record, sequence, U64),
    F(container_record, created_ns, I64),
    F(container_record, started_ns, I64),
    F(container_record, finished_ns, I64),
    F(container_record, uid, I64),
    F(container_record, gid, I64),
    F(container_record, exit_code, INT),
    F(container_record, pid, INT),
    F(container_record, groups, STRV),
    {.name = "resources", .type = FIELD_STRUCT, .offset = offsetof(struct container_record, resources), .of = &resources_fields},
};
static const struct fields container_record_fields = FIELDS(struct container_record, container_record_list);

/* ---- writing ---- */

/* Within a second, so that a power cut loses little. What was removed meanwhile needs no flush. */
static bool
flush(void *arg, const char *path)
{
    struct runtime *rt = arg;
    cleanup_close int file = openat(rt->root_dir, path, O_RDONLY | O_CLOEXEC);
    if (file >= 0)
        (void)fsync(file);
    return true;
}

/* "{…}" as a line of its own, also where what stands before it is torn. Takes the JSON; caller frees. */
static char *
as_line(json_t *json, const char *before)
{
    cleanup_free char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    return text ? str_printf("%s%s\n", before, text) : NULL;
}

static int
put_first_line(int dir, const struct fields *fields, const void *config, const void *request, size_t request_length, struct error *err)
{
    json_t *json = TRY_PTR(fields_to_json(fields, config, err));
    cleanup_free char *encoded = base64_encode(request, request_length);
    cleanup_free char *line = as_line(json_pack("{s:i, s:o, s:s}", "version", RECORD_VERSION, "config", json, "request", encoded), "");
    if (!line)
        return error_set(err, ERR_INTERNAL, "it cannot be written as JSON");
    cleanup_close int fd = TRY(file_open(dir, "record", O_WRONLY | O_CREAT | O_EXCL, 0600, err));
    return file_write_all(fd, "record", line, strlen(line), err);
}

/* The first line and the newest state, without what was in between. */
static int
shorten(struct runtime *rt, const char *path, const char *line, struct error *err)
{
    cleanup_free char *text = NULL;
    TRY(file_read(rt->root_dir, path, RECORD_MAX, &text, NULL, err));
    text[strcspn(text, "\n")] = '\0';
    cleanup_free char *whole = str_printf("%s%s", text, line);
    return file_replace(rt->root_dir, path, whole, strlen(whole), 0600, false, err);
}

static int
append(struct runtime *rt, const char *path, const char *line, struct error *err)
{
    cleanup_close int fd = TRY(file_open(rt->root_dir, path, O_WRONLY | O_APPEND, 0, err));
    off_t size = lseek(fd, 0, SEEK_END);
    ssize_t n = write(fd, line, strlen(line));
    if (n != (ssize_t)strlen(line))
        return error_errno(err, n < 0 ? errno : ENOSPC, "write %s", path);
    return size > RECORD_GROWN ? shorten(rt, path, line, err) : 0;
}

static int
put_state(struct runtime *rt, const char *path, const struct fields *fields, const void *object, struct error *err)
{
    cleanup_free char *line = as_line(TRY_PTR(fields_to_json(fields, object, err)), "\n");
    if (!line)
        return error_set(err, ERR_INTERNAL, "it cannot be written as JSON");
    TRY(append(rt, path, line, err));
    janitor_add(rt->janitor, flush, path, NS_PER_SECOND / 2);
    return 0;
}

static int
make_dir(int parent, const char *id, struct error *err)
{
    if (mkdirat(parent, id, 0700) < 0)
        return error_errno(err, errno, "make its record");
    return file_open(parent, id, O_RDONLY | O_DIRECTORY, 0, err);
}

int
record_pod_new(struct runtime *rt, const struct pod *pod, struct error *err)
{
    cleanup_close int dir = TRY(make_dir(rt->pods_dir, pod->id, err));
    if (put_first_line(dir, &pod_config_fields, pod->config, pod->config->request, pod->config->request_length, err) < 0) {
        record_pod_discard(rt, pod->id);
        return -1;
    }
    return steal(dir);
}

int
record_pod_dir(struct runtime *rt, const char *id, struct error *err)
{
    return file_open(rt->pods_dir, id, O_RDONLY | O_DIRECTORY, 0, err);
}

int
record_pod_state(struct runtime *rt, struct pod *pod, struct error *err)
{
    struct pod_record record = {
        .version = RECORD_VERSION, .id = pod->id, .cgroup_parent = pod->cgroup_parent, .sequence = pod->sequence, .created_ns = pod->created_ns};
    struct strv ips = {0};
    pthread_mutex_lock(&rt->lock);
    record.phase = (int)pod->phase;
    record.attached = pod->attached;
    record.monitor_pid = pod->monitor.pid;
    record.start_ticks = pod->monitor.start_ticks;
    record.boot_id = str_dup(pod->monitor.boot_id[0] ? pod->monitor.boot_id : rt->boot_id);
    record.reason = str_dup(pod->reason);
    strv_copy(&ips, &pod->ips);
    resources_copy(&record.overhead, &pod->overhead);
    resources_copy(&record.resources, &pod->resources);
    pthread_mutex_unlock(&rt->lock);
    record.ips = ips;
    cleanup_free char *path = str_printf("pods/%s/record", pod->id);
    int result = put_state(rt, path, &pod_record_fields, &record, err);
    free(record.boot_id);
    free(record.reason);
    strv_free(&ips);
    resources_free(&record.overhead);
    resources_free(&record.resources);
    return result;
}

int
record_container_new(struct runtime *rt, const struct container *c, struct error *err)
{
    const struct id_maps *maps = &c->pod->config->userns;
    cleanup_close int dir = TRY(make_dir(rt->containers_dir, c->id, err));
    /* The upper directory becomes the container's root: its mode is that of /. */
    int result = put_first_line(dir, &container_config_fields, c->config, c->config->request, c->config->request_length, err);
    if (result == 0 && (mkdirat(dir, "upper", 0755) < 0 || mkdirat(dir, "work", 0700) < 0))
        result = error_errno(err, errno, "make its writable layer");
    if (result == 0 && idmap_is_set(maps) && fchownat(dir, "upper", (uid_t)idmap_uid(maps, 0), (gid_t)idmap_gid(maps, 0), AT_SYMLINK_NOFOLLOW) < 0)
        result = error_errno(err, errno, "give it its writable layer");
    if (result < 0)
        record_container_discard(rt, c->id);
    return result;
}

int
record_container_state(struct runtime *rt, struct container *c, struct error *err)
{
    struct container_record record = {.version = RECORD_VERSION,
                                      .id = c->id,
                                      .cgroup = c->cgroup,
                                      .log_path = c->log_path,
                                      .sequence = c->sequence,
                                      .created_ns = c->created_ns,
                                      .uid = c->credentials.uid,
                                      .gid = c->credentials.gid,
                                      .home = c->credentials.home,
                                      .filter = c->credentials.filter,
                                      .profile = c->credentials.profile,
                                      .label = c->credentials.label,
                                      .groups = c->credentials.groups};
    pthread_mutex_lock(&rt->lock);
    record.phase = (int)c->phase;
    record.pid = c->pid;
    record.started_ns = c->started_ns;
    record.finished_ns = c->finished_ns;
    record.exit_code = c->exit_code;
    record.reason = str_dup(c->reason);
    record.message = str_dup(c->message);
    resources_copy(&record.resources, &c->resources);
    pthread_mutex_unlock(&rt->lock);
    cleanup_free char *path = str_printf("containers/%s/record", c->id);
    int result = put_state(rt, path, &container_record_fields, &record, err);
    free(record.reason);
    free(record.message);
    resources_free(&record.resources);
    return result;
}

/* ---- removing ---- */

static bool
empty_trash(void *arg, const char *name)
{
    struct runtime *rt = arg;
    return file_remove_tree(rt->trash_dir, name, NULL) == 0;
}

static void
discard(struct runtime *rt, int dir, const char *kind, const char *id)
{
    cleanup_free char *name = str_printf("%s-%s", kind, id);
    if (renameat(dir, id, rt->trash_dir, name) == 0)
        janitor_add(rt->sweeper, empty_trash, name, 0);
    else if (errno != ENOENT)
        log_error("cannot remove a record", "kind", kind, "id", id, "error", strerror(errno));
}

void
record_pod_discard(struct runtime *rt, const char *id)
{
    discard(rt, rt->pods_dir, "pod", id);
}

void
record_container_discard(struct runtime *rt, const char *id)
{
    discard(rt, rt->containers_dir, "container", id);
}

void
record_set_aside(struct runtime *rt, const char *kind, const char *id, const char *why)
{
    cleanup_free char *from = str_printf("%s/%s", kind, id);
    cleanup_free char *to = str_printf("set-aside/%s-%s-%lld", kind, id, (long long)clock_now_ns());
    if (renameat(rt->root_dir, from, rt->root_dir, to) < 0)
        log_error("cannot set a record aside", "record", from, "error", strerror(errno));
    log_warn("a record was set aside", "record", from, "now_at", to, "why", why);
    HOLD(&rt->lock);
    strv_addf(&rt->set_aside, "%s: %s", from, why);
}

/* ---- reading ---- */

/* The first line of `text`, which is cut off it, as JSON. */
static json_t *
next_line(char **text)
{
    char *line = strsep(text, "\n");
    return *line ? json_loads(line, 0, NULL) : NULL;
}

static int
read_first_line(char **text, const struct fields *fields, void *config, void **request, size_t *request_length, struct error *err)
{
    char *bytes = NULL;
    json_t *json = next_line(text);
    if (!json)
        return error_set(err, ERR_INVALID, "its first line is no JSON");
    const char *encoded = json_string_value(json_object_get(json, "request"));
    int result = json_integer_value(json_object_get(json, "version")) == RECORD_VERSION ? 0 : error_set(err, ERR_INVALID, "its version is unknown");
    if (result == 0)
        result = fields_from_json(fields, config, json_object_get(json, "config"), err);
    if (result == 0)
        result = base64_decode(encoded ? encoded : "", &bytes, request_length, err);
    json_decref(json);
    *request = bytes;
    return result;
}

/* The last line that is whole; NULL where there is none. */
static json_t *
read_last_state(char *text)
{
    json_t *last = NULL;
    while (text && *text) {
        json_t *json = next_line(&text);
        if (!json)
            continue;
        if (last)
            json_decref(last);
        last = json;
    }
    return last;
}

/* Config and request into place; the state's JSON, NULL where the record has none. *whole tells whether the first line was fine. */
static json_t *
read_record(int kind_dir, const char *id, const struct fields *fields, void *config, void **request, size_t *request_length, bool *whole,
            struct error *err)
{
    cleanup_free char *path = str_printf("%s/record", id);
    cleanup_free char *text = NULL;
    *whole = false;
    if (file_read(kind_dir, path, RECORD_MAX, &text, NULL, err) < 0)
        return NULL;
    char *rest = text;
    *whole = read_first_line(&rest, fields, config, request, request_length, err) == 0;
    return read_last_state(rest);
}

static int
check_record(int version, const char *recorded_id, const char *id, struct error *err)
{
    if (version != RECORD_VERSION)
        return error_set(err, ERR_INVALID, "the version of its state is %d", version);
    if (!str_eq(recorded_id, id))
        return error_set(err, ERR_INVALID, "its state says it is of %.64s", recorded_id);
    return 0;
}

/* What a making that was cut short leaves: no record, an empty or torn one, or one without a state. */
static enum record_loaded
without_state(const json_t *state)
{
    return state ? RECORD_DAMAGED : RECORD_UNFINISHED;
}

/* What `record` holds moves into the pod. */
static void
pod_adopt_record(struct pod *pod, struct pod_record *record)
{
    pod->sequence = record->sequence;
    pod->created_ns = record->created_ns;
    pod->phase = record->phase == POD_PHASE_READY ? POD_PHASE_READY : POD_PHASE_NOTREADY;
    pod->attached = record->attached;
    pod->monitor.pid = record->monitor_pid;
    pod->monitor.start_ticks = record->start_ticks;
    (void)snprintf(pod->monitor.boot_id, sizeof pod->monitor.boot_id, "%s", record->boot_id);
    free(pod->cgroup_parent);
    pod->cgroup_parent = steal(record->cgroup_parent);
    pod->reason = steal(record->reason);
    pod->ips = record->ips;
    record->ips = (struct strv){0};
    pod->overhead = record->overhead;
    pod->resources = record->resources;
    record->overhead = record->resources = (struct resources){0};
    fields_free(&pod_record_fields, record);
}

static int
pod_read_state(struct pod *pod, const json_t *state, struct error *err)
{
    struct pod_record record = {0};
    TRY(fields_from_json(&pod_record_fields, &record, state, err));
    if (check_record(record.version, record.id, pod->id, err) < 0) {
        fields_free(&pod_record_fields, &record);
        return -1;
    }
    pod_adopt_record(pod, &record);
    return 0;
}

static struct pod *
blank_pod(const char *id)
{
    struct pod *pod = mem_zalloc(1, sizeof *pod);
    pod->references = 1;
    (void)snprintf(pod->id, sizeof pod->id, "%s", id);
    pod->config = pod_config_new();
    pod->phase = POD_PHASE_NOTREADY;
    return pod;
}

enum record_loaded
record_pod_load(struct runtime *rt, const char *id, struct pod **out, struct error *err)
{
    struct pod *pod = blank_pod(id);
    bool whole;
    json_t *state = read_record(rt->pods_dir, id, &pod_config_fields, pod->config, &pod->config->request, &pod->config->request_length, &whole, err);
    if (whole) {
        pod->key = pod_config_key(pod->config);
        pod->cgroup_parent = pod_cgroup_path(rt, pod->config, id, NULL);
    }
    enum record_loaded loaded = whole && state && pod_read_state(pod, state, err) == 0 ? RECORD_WHOLE : without_state(state);
    if (state)
        json_decref(state);
    *out = loaded == RECORD_WHOLE || (loaded == RECORD_UNFINISHED && whole) ? pod : NULL;
    if (!*out)
        pod_unref(pod);
    return loaded;
}

static void
container_adopt_record(struct container *c, struct container_record *record)
{
    c->sequence = record->sequence;
    c->created_ns = record->created_ns;
    c->started_ns = record->started_ns;
    c->finished_ns = record->finished_ns;
    c->exit_code = record->exit_code;
    c->phase = (enum container_phase)record->phase;
    c->pid = record->pid;
    c->credentials.uid = record->uid;
    c->credentials.gid = record->gid;
    c->credentials.groups = record->groups;
    c->credentials.home = steal(record->home);
    c->credentials.filter = steal(record->filter);
    c->credentials.profile = steal(record->profile);
    c->credentials.label = steal(record->label);
    free(c->cgroup);
    c->cgroup = steal(record->cgroup);
    c->log_path = steal(record->log_path);
    c->reason = steal(record->reason);
    c->message = steal(record->message);
    c->resources = record->resources;
    record->groups = (struct strv){0};
    record->resources = (struct resources){0};
    fields_free(&container_record_fields, record);
}

static int
find_pod_of(struct runtime *rt, struct container *c, struct error *err)
{
    HOLD(&rt->lock);
    c->pod = pod_find(rt, c->config->pod_id, err);
    return c->pod ? 0 : -1;
}

static int
container_read_state(struct container *c, const json_t *state, struct error *err)
{
    struct container_record record = {0};
    TRY(fields_from_json(&container_record_fields, &record, state, err));
    if (check_record(record.version, record.id, c->id, err) < 0) {
        fields_free(&container_record_fields, &record);
        return -1;
    }
    container_adopt_record(c, &record);
    return 0;
}

static struct container *
blank_container(const char *id)
{
    struct container *c = mem_zalloc(1, sizeof *c);
    c->references = 1;
    c->stop_deadline_ns = INT64_MAX;
    (void)snprintf(c->id, sizeof c->id, "%s", id);
    c->config = container_config_new();
    return c;
}

enum record_loaded
record_container_load(struct runtime *rt, const char *id, struct container **out, struct error *err)
{
    struct container *c = blank_container(id);
    bool whole;
    json_t *state =
        read_record(rt->containers_dir, id, &container_config_fields, c->config, &c->config->request, &c->config->request_length, &whole, err);
    bool owned = whole && find_pod_of(rt, c, err) == 0;
    if (owned) {
        c->key = container_config_key(c->pod->id, c->config);
        c->cgroup = pod_container_cgroup(rt, c->pod, id);
    }
    bool stated = state && container_read_state(c, state, owned ? err : NULL) == 0;
    enum record_loaded loaded = !whole || !stated ? without_state(state) : owned ? RECORD_WHOLE : RECORD_ORPHAN;
    if (state)
        json_decref(state);
    *out = stated || (loaded == RECORD_UNFINISHED && owned) ? c : NULL;
    if (!*out)
        container_put(rt, c);
    return loaded;
}
