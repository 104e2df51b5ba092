/* Manifests, indexes and configurations. What begins like JSON is taken as it is; else the bytes are a program that puts a document together from the
 * words that matter, as jansson is not instrumented and mutation alone hardly ever makes one. */
#include <stdlib.h>

#include "imageservice/image_config.h"
#include "imageservice/manifest.h"
#include "program.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DEPTH_MAX = 6, MEMBERS_MAX = 12 };

#define DIGEST "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static const char *const keys[] = {"config",
                                   "layers",
                                   "manifests",
                                   "mediaType",
                                   "digest",
                                   "size",
                                   "schemaVersion",
                                   "annotations",
                                   "urls",
                                   "platform",
                                   "os",
                                   "variant",
                                   "architecture",
                                   "os.version",
                                   "rootfs",
                                   "diff_ids",
                                   "Env",
                                   "Cmd",
                                   "Labels",
                                   "Volumes",
                                   "User",
                                   "Entrypoint",
                                   "StopSignal",
                                   "org.opencontainers.image.title",
                                   "io.deis.oras.content.unpack"};
static const char *const values[] = {"\"" DIGEST "\"",
                                     "\"" DIGEST "\"",
                                     "1",
                                     "-1",
                                     "9223372036854775807",
                                     "1e99",
                                     "null",
                                     "true",
                                     "\"\"",
                                     "\"linux\"",
                                     "\"amd64\"",
                                     "\"arm\"",
                                     "\"v7\"",
                                     "\"v\"",
                                     "\"386\"",
                                     "\"true\"",
                                     "\"a/b\"",
                                     "\"../.wh.x\"",
                                     "\"sha512:0\"",
                                     "\"http://a\"",
                                     "\"\\ud83d\\ude00\"",
                                     "\"application/vnd.oci.image.index.v1+json\"",
                                     "\"application/vnd.oci.image.config.v1+json\"",
                                     "\"application/vnd.oci.image.layer.v1.tar\"",
                                     "\"application/vnd.oci.empty.v1+json\""};
#define ONE_OF(list) (list)[next(p) % (sizeof(list) / sizeof *(list))]

static void
write_value(struct program *p, int depth, struct buf *out)
{
    unsigned what = next(p), members = what >> 2 & 15;
    if ((what & 3) < 2 || depth >= DEPTH_MAX) {
        (void)buf_adds(out, ONE_OF(values));
        return;
    }
    bool object = (what & 3) == 2;
    (void)buf_adds(out, object ? "{" : "[");
    for (unsigned i = 0; i < members && i < MEMBERS_MAX && p->size; i++) {
        (void)buf_adds(out, i ? "," : "");
        if (object)
            (void)buf_addf(out, "\"%s\":", ONE_OF(keys));
        write_value(p, depth + 1, out);
    }
    (void)buf_adds(out, object ? "}" : "]");
}

static void
read_manifest(const struct buf *text)
{
    struct error err;
    struct manifest manifest;
    if (manifest_parse(text->data, text->length, "", &manifest, &err) < 0)
        return;
    cleanup_platform struct platform machine;
    platform_of_machine(&machine);
    if (manifest.is_index) {
        const struct descriptor *chosen = manifest_choose(&manifest, &machine, &err);
        for (size_t i = 0; chosen; i++) {
            if (i >= manifest.count)
                abort(); /* none is chosen twice */
            chosen = manifest_choose_after(&manifest, &machine, chosen);
        }
    }
    /* The manifest of an artifact is its configuration. */
    struct image_config config = {0};
    if (manifest.is_artifact && (image_config_parse(text->data, text->length, &config, NULL, &err) < 0 || !config.is_artifact))
        abort();
    image_config_free(&config);
    manifest_free(&manifest);
}

static void
read_config(const struct buf *text)
{
    struct error err;
    struct image_config config = {0};
    cleanup_strv struct strv diff_ids = {0};
    (void)image_config_parse(text->data, text->length, &config, &diff_ids, &err);
    image_config_free(&config);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct program p = {data, size};
    cleanup_buf struct buf text = BUF(1 << 20);
    if (size && *data == '{')
        (void)buf_add(&text, data, size);
    else
        write_value(&p, 0, &text);
    if (text.length) {
        read_manifest(&text);
        read_config(&text);
    }
    return 0;
}
