#include "imageservice/manifest.h"

#include <string.h>
#include <sys/utsname.h>

#include "imageservice/digest.h"
#include "imageservice/json.h"

#define OCI    "application/vnd.oci.image."
#define DOCKER "application/vnd.docker."

const char manifest_accept[] =
    "Accept: " OCI "index.v1+json, " OCI "manifest.v1+json, " DOCKER "distribution.manifest.list.v2+json, " DOCKER "distribution.manifest.v2+json";

static const char *const index_types[] = {OCI "index.v1+json", DOCKER "distribution.manifest.list.v2+json", NULL};
static const char *const schema1_types[] = {DOCKER "distribution.manifest.v1+json", DOCKER "distribution.manifest.v1+prettyjws", NULL};
static const char *const config_types[] = {OCI "config.v1+json", DOCKER "container.image.v1+json", "application/octet-stream", "", NULL};
/* How it is compressed is told by the bytes; the type only has to be a layer's. */
static const char *const layer_types[] = {
    OCI "layer.v1.tar",
    OCI "layer.v1.tar+gzip",
    OCI "layer.v1.tar+zstd",
    DOCKER "image.rootfs.diff.tar",
    DOCKER "image.rootfs.diff.tar.gzip",
    DOCKER "image.rootfs.diff.tar.zstd",
    "application/octet-stream",
    "",
    NULL,
};

static bool
one_of(const char *const list[], const char *s)
{
    for (; *list; list++)
        if (str_eq(*list, s))
            return true;
    return false;
}

int
descriptor_parse(const json_t *object, const char *what, struct descriptor *out, struct error *err)
{
    const char *type, *digest;
    if (!json_is_object(object))
        return error_set(err, ERR_INVALID, "%s is missing", what);
    TRY(json_get_string(object, "mediaType", &type, err));
    TRY(json_get_string(object, "digest", &digest, err));
    const json_t *size = json_object_get(object, "size");
    if (!digest_valid(digest))
        return error_set(err, ERR_INVALID, "%s: %.80s is no digest", what, *digest ? digest : "(nothing)");
    if (!json_is_integer(size) || json_integer_value(size) < 0)
        return error_set(err, ERR_INVALID, "%s: its size is missing or negative", what);
    *out = (struct descriptor){str_dup(type), str_dup(digest), json_integer_value(size)};
    return 0;
}

static int
platform_parse(const json_t *object, struct platform *out, struct error *err)
{
    const char *os, *architecture, *variant;
    TRY(json_get_string(object, "os", &os, err));
    TRY(json_get_string(object, "architecture", &architecture, err));
    TRY(json_get_string(object, "variant", &variant, err));
    *out = (struct platform){str_dup(os), str_dup(architecture), str_dup(variant)};
    return 0;
}

static int
parse_list(const json_t *list, const char *what, struct manifest *out, struct error *err)
{
    if (!json_is_array(list))
        return error_set(err, ERR_INVALID, "%s are missing", what);
    if (json_array_size(list) > MANIFEST_LAYERS_MAX)
        return error_set(err, ERR_INVALID, "it has %zu %s; the limit is %d", json_array_size(list), what, MANIFEST_LAYERS_MAX);
    out->layers = mem_zalloc(json_array_size(list), sizeof *out->layers);
    out->platforms = mem_zalloc(json_array_size(list), sizeof *out->platforms);
    out->count = json_array_size(list); /* what fails half-way is freed as far as it is filled */
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
    {
        TRY(descriptor_parse(item, what, &out->layers[i], err));
        TRY(platform_parse(json_object_get(item, "platform"), &out->platforms[i], err));
    }
    return 0;
}

static int
check_types(const struct manifest *manifest, struct error *err)
{
    if (!one_of(config_types, manifest->config.media_type))
        return error_set(err, ERR_UNSUPPORTED, "its configuration is of type %.100s: this is no image that can be run", manifest->config.media_type);
    for (size_t i = 0; i < manifest->count; i++)
        if (!one_of(layer_types, manifest->layers[i].media_type))
            return error_set(err, ERR_UNSUPPORTED, "layer %zu is of a type that nobody knows: %.100s", i + 1, manifest->layers[i].media_type);
    return 0;
}

static int
parse(const char *text, size_t length, const char *content_type, struct manifest *out, struct error *err)
{
    cleanup_json json_t *root = TRY_PTR(json_parse(text, length, "not readable", err));
    const char *type;
    TRY(json_get_string(root, "mediaType", &type, err));
    const json_t *version = json_object_get(root, "schemaVersion");
    if (one_of(schema1_types, *type ? type : content_type) || (json_is_integer(version) && json_integer_value(version) == 1))
        return error_set(err, ERR_UNSUPPORTED, "it is in Docker's schema 1, which is obsolete: push the image again with a tool of these years");
    TRY(json_get_map(root, "annotations", &out->annotations, err));
    const json_t *manifests = json_object_get(root, "manifests"), *layers = json_object_get(root, "layers");
    /* Content that could be read as both is how one digest would mean two images (OCI image spec, CVE-2021-41190). */
    if (manifests && layers)
        return error_set(err, ERR_INVALID, "it has both layers and manifests");
    out->is_index = manifests || one_of(index_types, type);
    if (out->is_index)
        return parse_list(manifests, "manifests", out, err);
    TRY(descriptor_parse(json_object_get(root, "config"), "config", &out->config, err));
    TRY(parse_list(layers, "layers", out, err));
    return check_types(out, err);
}

int
manifest_parse(const char *text, size_t length, const char *content_type, struct manifest *out, struct error *err)
{
    *out = (struct manifest){0};
    if (parse(text, length, content_type, out, err) == 0)
        return 0;
    manifest_free(out);
    return error_prefix(err, "manifest");
}

void
manifest_layer_digests(const struct manifest *manifest, struct strv *out)
{
    for (size_t i = 0; i < manifest->count; i++)
        strv_add(out, manifest->layers[i].digest);
}

void
descriptor_free(struct descriptor *descriptor)
{
    free(descriptor->media_type);
    free(descriptor->digest);
}

void
manifest_free(struct manifest *manifest)
{
    descriptor_free(&manifest->config);
    for (size_t i = 0; i < manifest->count; i++) {
        descriptor_free(&manifest->layers[i]);
        platform_free(&manifest->platforms[i]);
    }
    free(manifest->layers);
    free(manifest->platforms);
    strmap_free(&manifest->annotations);
    *manifest = (struct manifest){0};
}

static const struct {
    const char *machine, *architecture, *variant;
} machines[] = {
    {"x86_64", "amd64", ""}, {"aarch64", "arm64", "v8"}, {"armv7l", "arm", "v7"},    {"armv6l", "arm", "v6"},
    {"i686", "386", ""},     {"riscv64", "riscv64", ""}, {"ppc64le", "ppc64le", ""}, {"s390x", "s390x", ""},
};

void
platform_of_machine(struct platform *out)
{
    struct utsname name;
    (void)uname(&name);
    const char *architecture = name.machine, *variant = "";
    for (size_t i = 0; i < sizeof machines / sizeof *machines; i++)
        if (str_eq(machines[i].machine, name.machine)) {
            architecture = machines[i].architecture;
            variant = machines[i].variant;
        }
    *out = (struct platform){str_dup("linux"), str_dup(architecture), str_dup(variant)};
}

void
platform_free(struct platform *platform)
{
    free(platform->os);
    free(platform->architecture);
    free(platform->variant);
    *platform = (struct platform){0};
}

static bool
cpu_has(const char *amd64_level)
{
#if defined(__x86_64__)
    bool v2 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("ssse3");
    bool v3 = v2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("fma");
    bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    return str_eq(amd64_level, "v2") ? v2 : str_eq(amd64_level, "v3") ? v3 : str_eq(amd64_level, "v4") && v4;
#else
    (void)amd64_level;
    return false;
#endif
}

/* How well the machine runs this: 0 not at all; more is better. A variant is "vN"; a newer machine runs older ones of arm. On amd64 the plain one
 * comes first: it is what the image's maker tested. */
static int
platform_rank(const struct platform *offered, const struct platform *wanted)
{
    if (!str_eq(offered->os, wanted->os) || !str_eq(offered->architecture, wanted->architecture))
        return 0;
    if (str_eq(offered->variant, wanted->variant))
        return 100;
    if (str_empty(offered->variant))
        return 50;
    if (str_eq(wanted->architecture, "amd64"))
        return str_eq(offered->variant, "v1") ? 99 : cpu_has(offered->variant) ? 10 + offered->variant[1] - '0' : 0;
    bool comparable = offered->variant[0] == 'v' && wanted->variant[0] == 'v' && offered->variant[1] >= '5' && strlen(offered->variant) == 2;
    return comparable && offered->variant[1] < wanted->variant[1] ? 60 + offered->variant[1] - '0' : 0;
}

const struct descriptor *
manifest_choose(const struct manifest *index, const struct platform *wanted, struct error *err)
{
    const struct descriptor *best = NULL;
    int best_rank = 0;
    cleanup_buf struct buf offers = BUF(256);
    for (size_t i = 0; i < index->count; i++) {
        const struct platform *offered = &index->platforms[i];
        int rank = platform_rank(offered, wanted);
        /* An index of one manifest that doesn't say its platform: that one is meant. */
        if (index->count == 1 && str_empty(offered->os) && str_empty(offered->architecture))
            rank = 1;
        if (rank > best_rank) {
            best_rank = rank;
            best = &index->layers[i];
        }
        (void)buf_addf(&offers, "%s%.20s/%.20s%.10s", offers.length ? ", " : "", offered->os, offered->architecture, offered->variant);
    }
    if (!best)
        (void)error_set(err, ERR_NOT_FOUND, "no image for %s/%s%s in the index; it has %s", wanted->os, wanted->architecture, wanted->variant,
                        offers.length ? offers.data : "none");
    return best;
}
