#include "imageservice/manifest.h"

#include <limits.h>
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
    OCI "layer.nondistributable.v1.tar",
    OCI "layer.nondistributable.v1.tar+gzip",
    OCI "layer.nondistributable.v1.tar+zstd",
    DOCKER "image.rootfs.diff.tar",
    DOCKER "image.rootfs.diff.tar.gzip",
    DOCKER "image.rootfs.diff.tar.zstd",
    DOCKER "image.rootfs.foreign.diff.tar",
    DOCKER "image.rootfs.foreign.diff.tar.gzip",
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
    *out = (struct descriptor){.media_type = str_dup(type), .digest = str_dup(digest), .size = json_integer_value(size)};
    return json_get_strings(object, "urls", &out->urls, err);
}

static int
platform_parse(const json_t *object, struct platform *out, struct error *err)
{
    const char *os, *os_version, *architecture, *variant;
    TRY(json_get_string(object, "os", &os, err));
    TRY(json_get_string(object, "os.version", &os_version, err));
    TRY(json_get_string(object, "architecture", &architecture, err));
    TRY(json_get_string(object, "variant", &variant, err));
    *out = (struct platform){str_dup(os), str_dup(architecture), str_dup(variant), str_dup(os_version)};
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
    for (size_t i = 0; i < manifest->count; i++)
        if (!one_of(layer_types, manifest->layers[i].media_type))
            return error_set(err, ERR_UNSUPPORTED, "layer %zu is of a type that nobody knows: %.100s", i + 1, manifest->layers[i].media_type);
    return 0;
}

/* No path leads out of a layer, but one may be a whiteout there. */
static int
title_parse(const json_t *layer, struct descriptor *out, struct error *err)
{
    cleanup_strmap struct strmap annotations = {0};
    TRY(json_get_map(layer, "annotations", &annotations, err));
    const char *title = strmap_get(&annotations, "org.opencontainers.image.title");
    const char *unpack = strmap_get(&annotations, "io.deis.oras.content.unpack");
    if (str_eq(unpack, "true") || (str_empty(title) && !str_empty(out->media_type) && one_of(layer_types, out->media_type)))
        return 0;
    out->title = str_dup(str_empty(title) ? out->digest : title);
    return str_starts(out->title, ".wh.") || strstr(out->title, "/.wh.") ? error_set(err, ERR_INVALID, "a blob's title is %.100s", out->title) : 0;
}

static int
titles_parse(const json_t *layers, struct manifest *out, struct error *err)
{
    size_t i;
    const json_t *layer;
    json_array_foreach(layers, i, layer) TRY(title_parse(layer, &out->layers[i], err));
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
    out->is_artifact = !one_of(config_types, out->config.media_type);
    return out->is_artifact ? titles_parse(layers, out, err) : check_types(out, err);
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
manifest_artifact_ids(const struct manifest *manifest, struct strv *out)
{
    for (size_t i = 0; i < manifest->count; i++) {
        char id[DIGEST_SIZE];
        const struct descriptor *d = &manifest->layers[i];
        cleanup_free char *text = str_printf("artifact %s %s", d->digest, d->title ? d->title : "");
        digest_of(NULL, text, strlen(text), id);
        strv_add(out, id);
    }
}

struct descriptor
descriptor_copy(const struct descriptor *descriptor)
{
    struct descriptor copy = {
        .media_type = str_dup(descriptor->media_type),
        .digest = str_dup(descriptor->digest),
        .size = descriptor->size,
        .title = descriptor->title ? str_dup(descriptor->title) : NULL,
    };
    strv_copy(&copy.urls, &descriptor->urls);
    return copy;
}

void
descriptor_free(struct descriptor *descriptor)
{
    free(descriptor->media_type);
    free(descriptor->digest);
    free(descriptor->title);
    strv_free(&descriptor->urls);
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
    *out = (struct platform){str_dup("linux"), str_dup(architecture), str_dup(variant), str_dup("")};
}

void
platform_free(struct platform *platform)
{
    free(platform->os);
    free(platform->architecture);
    free(platform->variant);
    free(platform->os_version);
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

/* How well the machine runs this variant of its architecture: 0 not at all; more is better, below 100. A variant is "vN"; a newer machine runs older
 * ones of arm. On amd64 the plain one comes first: it is what the image's maker tested. */
static int
variant_rank(const char *architecture, const char *offered, const char *wanted)
{
    if (str_eq(offered, wanted))
        return 99;
    if (str_empty(offered))
        return 50;
    if (str_eq(architecture, "amd64"))
        return str_eq(offered, "v1") ? 98 : cpu_has(offered) ? 10 + offered[1] - '0' : 0;
    bool comparable = offered[0] == 'v' && wanted[0] == 'v' && offered[1] >= '5' && strlen(offered) == 2;
    return comparable && offered[1] < wanted[1] ? 60 + offered[1] - '0' : 0;
}

/* An architecture's programs run on the 64-bit one that came of it, where there are none of its own. */
static int
platform_rank(const struct platform *offered, const struct platform *wanted)
{
    if (!str_eq(offered->os, wanted->os))
        return 0;
    if (str_eq(offered->architecture, wanted->architecture)) {
        int its = variant_rank(wanted->architecture, offered->variant, wanted->variant);
        return its ? 100 + its : 0;
    }
    if (str_eq(wanted->architecture, "arm64") && str_eq(offered->architecture, "arm"))
        return variant_rank("arm", offered->variant, "v8");
    return str_eq(wanted->architecture, "amd64") && str_eq(offered->architecture, "386") ? 10 : 0;
}

static bool
is_anonymous(const struct manifest *index, size_t i)
{
    return str_empty(index->platforms[i].os) && str_empty(index->platforms[i].architecture);
}

static size_t
count_anonymous(const struct manifest *index)
{
    size_t count = 0;
    for (size_t i = 0; i < index->count; i++)
        count += is_anonymous(index, i) && !one_of(index_types, index->layers[i].media_type);
    return count;
}

/* 0: not at all. */
static int
rank(const struct manifest *index, size_t i, const struct platform *wanted, size_t anonymous)
{
    if (is_anonymous(index, i))
        return one_of(index_types, index->layers[i].media_type) ? 2 : anonymous == 1;
    int its = platform_rank(&index->platforms[i], wanted);
    return its ? 4 + 2 * its - !str_empty(index->platforms[i].os_version) : 0;
}

const struct descriptor *
manifest_choose_after(const struct manifest *index, const struct platform *wanted, const struct descriptor *chosen)
{
    size_t anonymous = count_anonymous(index), best = 0, last = chosen ? (size_t)(chosen - index->layers) : 0;
    int best_rank = 0, limit = chosen ? rank(index, last, wanted, anonymous) : INT_MAX;
    for (size_t i = 0; i < index->count; i++) {
        int its = rank(index, i, wanted, anonymous);
        if (its > best_rank && (its < limit || (its == limit && i > last))) {
            best_rank = its;
            best = i;
        }
    }
    return best_rank ? &index->layers[best] : NULL;
}

bool
manifest_is_without_platform(const struct manifest *index, const struct descriptor *chosen)
{
    return is_anonymous(index, (size_t)(chosen - index->layers));
}

const struct descriptor *
manifest_choose(const struct manifest *index, const struct platform *wanted, struct error *err)
{
    const struct descriptor *best = manifest_choose_after(index, wanted, NULL);
    if (best)
        return best;
    cleanup_buf struct buf offers = BUF(256);
    for (size_t i = 0; i < index->count; i++) {
        const struct platform *p = &index->platforms[i];
        (void)buf_addf(&offers, "%s%.20s/%.20s%.10s%s%.20s", i ? ", " : "", p->os, p->architecture, p->variant, *p->os_version ? " " : "",
                       p->os_version);
    }
    (void)error_set(err, ERR_NOT_FOUND, "no image for %s/%s%s in the index; it has %s", wanted->os, wanted->architecture, wanted->variant,
                    offers.length ? offers.data : "none");
    return NULL;
}
