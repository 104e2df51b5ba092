#include "imageservice/image_config.h"

#include "imageservice/digest.h"
#include "imageservice/json.h"

static const struct text_field {
    const char *key;
    size_t offset;
} run_texts[] =
    {
        {"User", offsetof(struct image_config, user)},
        {"WorkingDir", offsetof(struct image_config, working_dir)},
        {"StopSignal", offsetof(struct image_config, stop_signal)},
},
  platform_texts[] = {
      {"os", offsetof(struct image_config, os)},
      {"architecture", offsetof(struct image_config, architecture)},
      {"variant", offsetof(struct image_config, variant)},
};

static int
get_texts(const json_t *object, const struct text_field fields[], size_t count, struct image_config *config, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        const char *value;
        TRY(json_get_string(object, fields[i].key, &value, err));
        *(char **)((char *)config + fields[i].offset) = str_dup(value);
    }
    return 0;
}

/* "Volumes" is an object whose keys are the paths. */
static int
get_volumes(const json_t *object, struct strv *out, struct error *err)
{
    json_t *volumes = json_object_get(object, "Volumes"), *value;
    if (volumes && !json_is_null(volumes) && !json_is_object(volumes))
        return error_set(err, ERR_INVALID, "Volumes is not an object");
    const char *path;
    json_object_foreach(volumes, path, value) strv_add(out, path);
    return 0;
}

static int
get_diff_ids(const json_t *root, struct strv *out, struct error *err)
{
    TRY(json_get_strings(json_object_get(root, "rootfs"), "diff_ids", out, err));
    for (size_t i = 0; i < out->count; i++)
        if (!digest_valid(out->items[i]))
            return error_set(err, ERR_INVALID, "diff_ids: %.80s is no digest", out->items[i]);
    return 0;
}

static int
parse(const char *text, size_t length, struct image_config *config, struct strv *diff_ids, struct error *err)
{
    cleanup_json json_t *root = TRY_PTR(json_parse(text, length, "not readable", err));
    TRY(get_texts(root, platform_texts, sizeof platform_texts / sizeof *platform_texts, config, err));
    config->is_artifact = json_is_array(json_object_get(root, "layers"));
    if (config->is_artifact)
        return get_texts(NULL, run_texts, sizeof run_texts / sizeof *run_texts, config, err);
    const json_t *run = json_object_get(root, "config");
    if (run && !json_is_null(run) && !json_is_object(run))
        return error_set(err, ERR_INVALID, "config is not an object");
    TRY(get_texts(run, run_texts, sizeof run_texts / sizeof *run_texts, config, err));
    TRY(json_get_strings(run, "Env", &config->env, err));
    TRY(json_get_strings(run, "Entrypoint", &config->entrypoint, err));
    TRY(json_get_strings(run, "Cmd", &config->cmd, err));
    TRY(json_get_map(run, "Labels", &config->labels, err));
    TRY(get_volumes(run, &config->volumes, err));
    return diff_ids ? get_diff_ids(root, diff_ids, err) : 0;
}

int
image_config_parse(const char *text, size_t length, struct image_config *config, struct strv *diff_ids, struct error *err)
{
    return parse(text, length, config, diff_ids, err) < 0 ? error_prefix(err, "image configuration") : 0;
}

void
image_config_free(struct image_config *config)
{
    strv_free(&config->env);
    strv_free(&config->entrypoint);
    strv_free(&config->cmd);
    strv_free(&config->volumes);
    strmap_free(&config->labels);
    free(config->user);
    free(config->working_dir);
    free(config->stop_signal);
    free(config->os);
    free(config->architecture);
    free(config->variant);
    *config = (struct image_config){0};
}
