/* Whether an image is signed: looks for its signatures where cosign puts them, until one is good. Places, for the digest that the reference names and
 * for that of the chosen manifest:
 *
 *   the tag sha256-HEX.sig         an image whose layers are payloads, each with its signature in an annotation
 *   referrers of the digest        manifests of such payloads, or of bundles (OCI distribution spec, "Listing Referrers")
 *   the tag sha256-HEX             the same list, where the registry has no such API (there: "Referrers Tag Schema")
 *
 * A mirror that has no good one is no reason: the hosts after it are asked, too. Of all that is found LIMIT_SIGNATURES are tried. */
#pragma once

#include "imageservice/pull/registry.h"
#include "imageservice/pull/signature.h"

/* The id of the key, which is the signers'. NULL with ERR_SIGNATURE: there is no good signature. Where a place could not be looked at, that is the
 * error, by its own kind: nobody knows whether the image is signed then. */
const char *verify_signed(struct registry *registry, const struct http_scope *scope, const struct signers *signers, struct error *err);
