/*
 * Tokens of an outside issuer (RFC 7519), strict as RFC 8725 asks: parsed once,
 * verified under the issuer's own keys, never told by the token which key or
 * algorithm to use.
 */
#ifndef BH_CORE_JWT_H
#define BH_CORE_JWT_H

#include <stdint.h>

#include "core/arena.h"
#include "core/error.h"
#include "core/json.h"
#include "core/jwk.h"
#include "core/str.h"

#define BH_JWT_MAX 8192
#define BH_JWT_SIGNATURE_MAX 1024

struct bh_jwt {
    enum bh_jwk_alg alg;
    struct bh_str kid; /* empty: it names none */
    struct bh_str signed_part;
    const uint8_t *signature;
    size_t signature_len;
    const struct bh_json *claims; /* an object */
    struct bh_str issuer;
    struct bh_str sub; /* empty where absent */
    int64_t exp_s;
    int64_t nbf_s; /* 0 where absent */
    int64_t iat_s; /* 0 where absent */
};

/**
 * bh_jwt_parse(text, arena, ret_jwt, err):
 * Take a compact JWS apart; everything it points to lives in ${arena} or
 * ${text}.  BH_E_TOKEN_INVALID for what is longer than BH_JWT_MAX, not
 * canonical base64url, no strict JSON (duplicate members, more than 16
 * levels), has another alg than RS256, ES256 or EdDSA, a `crit`, a key or a
 * place of keys in its header (jwk, jku, x5c, x5u), a `typ` other than `JWT`
 * or `at+jwt`, no string `iss`, no integer `exp`, or `nbf` or `iat` that are none.
 */
enum bh_code bh_jwt_parse(struct bh_str text, struct bh_arena *arena, struct bh_jwt *ret_jwt,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_jwt_is_for(jwt, audience): is its `aud` ${audience}, or an array of strings that has it? */
bool bh_jwt_is_for(const struct bh_jwt *jwt, struct bh_str audience);

/* What an issuer is trusted for. */
struct bh_jwt_door {
    struct bh_str issuer;
    struct bh_str audience; /* must be the `aud`, or in it */
    int64_t leeway_s;
    int64_t now_s;
};

/**
 * bh_jwt_check(jwt, jwks, door, err):
 * Is it a token of that issuer, for that audience, now?  BH_E_TOKEN_INVALID;
 * BH_E_TOKEN_EXPIRED where all but the end of its life is right.
 */
enum bh_code bh_jwt_check(const struct bh_jwt *jwt, const struct bh_jwks *jwks,
    const struct bh_jwt_door *door, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_jwt_claim(jwt, path):
 * The claim ${path}: a member of that very name, or else, where it has dots,
 * the member inside members ("realm_access.roles").  NULL where there is none.
 */
const struct bh_json *bh_jwt_claim(const struct bh_jwt *jwt, struct bh_str path);

#endif
