/*
 * Fetching the keys of an issuer: its discovery document, then its JWK set.
 *
 * The URL comes from an operator, and what it leads to from outside: https
 * only (http to this machine, where the URL says so), no redirects, no proxy,
 * at most 64 KiB, ten seconds, and no connection into private networks,
 * whatever a name resolves to, unless that is allowed.
 */
#ifndef BH_ENGINE_JWKS_FETCH_H
#define BH_ENGINE_JWKS_FETCH_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/buf.h"
#include "core/error.h"
#include "core/json.h"

#define BH_JWKS_FRESH_MIN_S 300
#define BH_JWKS_FRESH_MAX_S 86400
#define BH_JWKS_FRESH_S 3600 /* where the answer says nothing */

struct bh_jwks_source {
    const char *issuer;           /* discovered at <issuer>/.well-known/openid-configuration */
    const char *jwks_url;         /* NULL: discover it */
    const char *ca_file;          /* PEM; NULL: the system's */
    bool private_allowed;         /* networks that are not public */
    const _Atomic bool *stopping; /* once true, the fetch ends soon; NULL: it is never stopped */
};

struct bh_jwks_answer {
    struct bh_str keys; /* JSON text of the set, with what is needed of each key and no more */
    int64_t fresh_s;    /* how long the answer says that it counts, within the bounds above */
};

/**
 * bh_jwks_fetch(source, arena, ret_answer, err):
 * Fetch the set; it has a key that we can use.  BH_E_UNAVAILABLE where no answer came,
 * BH_E_INVALID where one came that is wrong.  The detail names the URL and what is wrong.
 */
enum bh_code bh_jwks_fetch(const struct bh_jwks_source *source, struct bh_arena *arena,
    struct bh_jwks_answer *ret_answer, struct bh_error *err) BH_MUSTCHECK;

/** bh_jwks_url_check(url, err): may it be asked at all?  BH_E_INVALID. */
enum bh_code bh_jwks_url_check(struct bh_str url, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_jwks_trim(set, arena, ret_keys, err):
 * The set with those members of its keys that a verifier needs: certificates and what else may
 * stand there go.  BH_E_INVALID where bh_jwks_read refuses the set.
 */
enum bh_code bh_jwks_trim(const struct bh_json *set, struct bh_arena *arena,
    struct bh_str *ret_keys, struct bh_error *err) BH_MUSTCHECK;

#endif
