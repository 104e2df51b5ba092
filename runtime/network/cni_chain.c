#include "runtime/network/cni_chain.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "runtime/network/cni_exec.h"
#include "runtime/network/cni_result.h"

enum operation { OP_ADD, OP_DEL, OP_CHECK, OP_STATUS, OP_GC };

static const struct {
    const char *name;
    int since;          /* the version that brought it */
    bool attachment;    /* it is about one: CNI_CONTAINERID and so on are set */
    int previous_since; /* the version from which prevResult is given, 0: never */
} operations[] = {
    [OP_ADD] = {"ADD", CNI_0_3_0, true, CNI_0_3_0},
    [OP_DEL] = {"DEL", CNI_0_3_0, true, CNI_0_4_0},
    [OP_CHECK] = {"CHECK", CNI_0_4_0, true, CNI_0_4_0},
    [OP_STATUS] = {"STATUS", CNI_1_1_0, false, 0},
    [OP_GC] = {"GC", CNI_1_1_0, false, 0},
};

/* What the error codes of the spec mean to our callers. [section 2, "Error"; 50 and 51: STATUS] */
static const struct {
    json_int_t code;
    enum error_kind kind;
} error_codes[] = {
    {1, ERR_UNSUPPORTED}, {2, ERR_INVALID},      {3, ERR_NOT_FOUND},    {4, ERR_INVALID},
    {7, ERR_INVALID},     {11, ERR_UNAVAILABLE}, {50, ERR_UNAVAILABLE}, {51, ERR_UNAVAILABLE},
};

static int
find_plugin(const char *type, const struct strv *dirs, char **path, struct error *err)
{
    cleanup_buf struct buf looked = BUF(512);
    for (size_t i = 0; i < dirs->count; i++) {
        struct stat st;
        cleanup_free char *candidate = str_printf("%s/%s", dirs->items[i], type);
        if (stat(candidate, &st) == 0 && S_ISREG(st.st_mode) && access(candidate, X_OK) == 0) {
            *path = steal(candidate);
            return 0;
        }
        (void)buf_addf(&looked, "%s%s", i ? ", " : "", dirs->items[i]);
    }
    return error_set(err, ERR_NOT_FOUND, "CNI plugin %s is in none of %s", type, looked.data ? looked.data : "no directories");
}

int
cni_find_plugins(const struct cni_config *config, const struct strv *plugin_dirs, struct error *err)
{
    for (size_t i = 0; i < cni_config_plugin_count(config); i++) {
        cleanup_free char *path = NULL;
        TRY(find_plugin(cni_config_plugin_type(config, i), plugin_dirs, &path, err));
    }
    return 0;
}

/* crispd's own environment (PATH, proxies), less what it may have inherited of CNI's. */
static void
make_environment(const struct cni_call *call, enum operation op, struct strv *env)
{
    for (char **variable = environ; *variable; variable++)
        if (!str_starts(*variable, "CNI_"))
            strv_add(env, *variable);
    strv_addf(env, "CNI_COMMAND=%s", operations[op].name);
    cleanup_buf struct buf path = BUF(65536);
    for (size_t i = 0; i < call->plugin_dirs->count; i++)
        (void)buf_addf(&path, "%s%s", i ? ":" : "", call->plugin_dirs->items[i]);
    strv_addf(env, "CNI_PATH=%s", path.data ? path.data : "");
    if (!operations[op].attachment)
        return;
    strv_addf(env, "CNI_CONTAINERID=%s", call->container_id);
    strv_addf(env, "CNI_NETNS=%s", call->netns);
    strv_add(env, "CNI_IFNAME=" CNI_INTERFACE);
    strv_addf(env, "CNI_ARGS=%s", call->args);
}

/* Of all capability arguments those that the plugin declares. */
static json_t *
runtime_config(const json_t *plugin, const json_t *capabilities)
{
    json_t *runtime = json_object();
    const char *name;
    json_t *declared, *value;
    json_object_foreach((json_t *)(uintptr_t)json_object_get(plugin, "capabilities"), name, declared)
    {
        if (json_is_true(declared) && (value = json_object_get(capabilities, name)))
            json_object_set(runtime, name, value);
    }
    return runtime;
}

/* The plugin's own configuration with the list's name and version. [section 3, "Deriving request configuration"] */
static json_t *
make_input(const struct cni_call *call, enum operation op, size_t i, const json_t *previous)
{
    const json_t *plugin = cni_config_plugin(call->config, i);
    json_t *input = json_copy((json_t *)(uintptr_t)plugin);
    json_object_set_new(input, "name", json_string(call->config->name));
    json_object_set_new(input, "cniVersion", json_string(call->config->version));
    json_object_del(input, "capabilities");
    json_object_del(input, "prevResult");
    json_object_del(input, "runtimeConfig");
    cleanup_json json_t *runtime = operations[op].attachment ? runtime_config(plugin, call->capabilities) : NULL;
    if (json_object_size(runtime))
        json_object_set(input, "runtimeConfig", runtime);
    if (previous && operations[op].previous_since && call->config->version_number >= operations[op].previous_since)
        json_object_set(input, "prevResult", (json_t *)(uintptr_t)previous);
    return input;
}

static enum error_kind
kind_of_code(json_int_t code)
{
    for (size_t i = 0; i < sizeof error_codes / sizeof *error_codes; i++)
        if (error_codes[i].code == code)
            return error_codes[i].kind;
    return ERR_INTERNAL;
}

/* What it said, less the newlines at the end. */
static char *
words_of(const struct buf *text)
{
    size_t length = text->length;
    while (length && (unsigned char)text->data[length - 1] <= ' ')
        length--;
    return length ? str_ndup(text->data, length) : str_dup("");
}

/* The plugin's own message: JSON on stdout as the spec has it, else what it said on stderr. */
static int
plugin_failed(const char *stage, const struct cni_output *output, struct error *err)
{
    cleanup_json json_t *json = json_loadb(output->out.data ? output->out.data : "", output->out.length, 0, NULL);
    const char *message = json_string_value(json_object_get(json, "msg")), *details = json_string_value(json_object_get(json, "details"));
    json_int_t code = json_integer_value(json_object_get(json, "code"));
    if (!str_empty(message) || !str_empty(details))
        return error_set(err, kind_of_code(code), "%s: %.1000s%s%.300s (code %lld)", stage, message ? message : "",
                         str_empty(message) || str_empty(details) ? "" : "; ", details ? details : "", (long long)code);
    cleanup_free char *words = words_of(output->errors.length ? &output->errors : &output->out);
    const char *end = WIFSIGNALED(output->status) ? "was ended by signal" : "exited with status";
    int number = WIFSIGNALED(output->status) ? WTERMSIG(output->status) : WEXITSTATUS(output->status);
    return error_set(err, ERR_INTERNAL, "%s: it %s %d%s%.1000s", stage, end, number, *words ? ": " : "", words);
}

static int
parse_result(const char *stage, const char *version, const struct cni_output *output, json_t **result, struct error *err)
{
    json_error_t bad;
    if (output->cut)
        return error_set(err, ERR_INVALID, "%s: its result is larger than %d bytes", stage, CNI_STDOUT_MAX);
    cleanup_json json_t *json = json_loadb(output->out.data ? output->out.data : "", output->out.length, 0, &bad);
    if (!json)
        return error_set(err, ERR_INVALID, "%s: its result is no JSON: %s", stage, output->out.length ? bad.text : "it wrote nothing");
    *result = cni_result_convert(json, version, err);
    return *result ? 0 : error_prefix(err, "%s", stage);
}

/* One plugin. `result` is NULL where none is expected. */
static int
run_plugin(const struct cni_call *call, enum operation op, size_t i, json_t *input, json_t **result, struct error *err)
{
    const char *type = cni_config_plugin_type(call->config, i);
    cleanup_free char *stage = str_printf("CNI plugin %s (network %s): %s", type, call->config->name, operations[op].name);
    cleanup_free char *path = NULL, *text = json_dumps(input, JSON_COMPACT);
    cleanup_strv struct strv env = {0};
    cleanup_output struct cni_output output = {0};
    if (find_plugin(type, call->plugin_dirs, &path, err) < 0)
        return error_prefix(err, "network %s: %s", call->config->name, operations[op].name);
    make_environment(call, op, &env);
    struct cni_exec exec = {path, env.items, text, call->timeout_ns, call->cancel, stage};
    TRY(cni_exec(&exec, &output, err));
    if (!WIFEXITED(output.status) || WEXITSTATUS(output.status) != 0)
        return plugin_failed(stage, &output, err);
    if (output.errors.length)
        log_debug("a CNI plugin said", "plugin", type, "command", operations[op].name, "text", output.errors.data);
    return result ? parse_result(stage, call->config->version, &output, result, err) : 0;
}

int
cni_add(const struct cni_call *call, json_t **result, struct error *err)
{
    cleanup_json json_t *previous = NULL;
    for (size_t i = 0; i < cni_config_plugin_count(call->config); i++) {
        json_t *next = NULL;
        cleanup_json json_t *input = make_input(call, OP_ADD, i, previous);
        TRY(run_plugin(call, OP_ADD, i, input, &next, err));
        json_decref(previous);
        previous = next;
    }
    *result = json_incref(previous);
    return 0;
}

int
cni_del(const struct cni_call *call, struct error *err)
{
    for (size_t i = cni_config_plugin_count(call->config); i-- > 0;) {
        cleanup_json json_t *input = make_input(call, OP_DEL, i, call->previous);
        TRY(run_plugin(call, OP_DEL, i, input, NULL, err));
    }
    return 0;
}

static int
run_each(const struct cni_call *call, enum operation op, struct error *err)
{
    if (call->config->version_number < operations[op].since)
        return 0;
    for (size_t i = 0; i < cni_config_plugin_count(call->config); i++) {
        cleanup_json json_t *input = make_input(call, op, i, call->previous);
        TRY(run_plugin(call, op, i, input, NULL, err));
    }
    return 0;
}

int
cni_check(const struct cni_call *call, struct error *err)
{
    return call->config->disable_check || !call->previous ? 0 : run_each(call, OP_CHECK, err);
}

int
cni_status(const struct cni_call *call, struct error *err)
{
    return run_each(call, OP_STATUS, err);
}

int
cni_gc(const struct cni_call *call, const struct strv *pod_ids, struct error *err)
{
    /* libcni up to 1.2.2 used the second key; a plugin that knows only that one would take its absence for "none". */
    static const char *const keys[] = {"cni.dev/valid-attachments", "cni.dev/attachments"};
    int result = 0;
    if (call->config->disable_gc || call->config->version_number < operations[OP_GC].since)
        return 0;
    cleanup_json json_t *valid = json_array();
    for (size_t i = 0; i < pod_ids->count; i++)
        json_array_append_new(valid, json_pack("{s:s, s:s}", "containerID", pod_ids->items[i], "ifname", CNI_INTERFACE));
    for (size_t i = 0; i < cni_config_plugin_count(call->config); i++) {
        cleanup_json json_t *input = make_input(call, OP_GC, i, NULL);
        for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
            json_object_set(input, keys[k], valid);
        /* One that fails keeps the others from nothing: the first error is told. */
        if (run_plugin(call, OP_GC, i, input, NULL, result ? NULL : err) < 0)
            result = -1;
    }
    return result;
}
