/*
 * The user token: what people and tests show to the edge
 * (`Authorization: Bearer`).  A JWT with HS256 under a key of one tenant and
 * one tenant epoch; doc/contract/token.md.
 */
#ifndef BH_CORE_USERTOKEN_H
#define BH_CORE_USERTOKEN_H

#include <stdint.h>

#include "core/arena.h"
#include "core/buf.h"
#include "core/error.h"
#include "core/key.h"
#include "core/str.h"
#include "core/tenant.h"

#define BH_USERTOKEN_MAX 4096
#define BH_USERTOKEN_LIFE_MAX_S 86400
#define BH_USERTOKEN_LIFE_S 900

/* What the kid says: `<tenant no>.<tenant epoch>.<key epoch>`. */
struct bh_usertoken_kid {
    int32_t no;
    uint32_t tenant_epoch;
    uint32_t key_epoch;
};

struct bh_usertoken {
    struct bh_usertoken_kid kid;
    struct bh_str signed_part;
    uint8_t mac[BH_MAC_BYTES];
    struct bh_str tenant;
    struct bh_str audience;
    struct bh_str issuer;
    struct bh_str sub;
    struct bh_str scope;         /* empty where absent */
    const struct bh_json *roles; /* an array of strings, or NULL; not signed by bh_usertoken_sign */
    int64_t iat_s;
    int64_t exp_s;
    int64_t nbf_s; /* iat_s where absent */
};

/**
 * bh_usertoken_parse(text, arena, ret_token, err):
 * Take ${text} apart strictly, believing nothing yet.  Strings live in
 * ${arena} or in ${text}.  BH_E_TOKEN_INVALID for whatever the contract does
 * not allow.
 */
enum bh_code bh_usertoken_parse(struct bh_str text, struct bh_arena *arena,
    struct bh_usertoken *ret_token, struct bh_error *err) BH_MUSTCHECK;

/* Whose door the token was shown at. */
struct bh_usertoken_door {
    struct bh_str install; /* uid text of the installation: the audience */
    struct bh_str tenant;  /* id that the request resolved to */
    int32_t no;
    uint32_t tenant_epoch;
    int64_t now_s;
};

/**
 * bh_usertoken_check(token, mac, door, err):
 * Believe it?  ${mac} is keyed with the user key of the tenant that the *kid*
 * names, at the tenant epoch and key epoch that it names, so that a token of
 * another tenant can be told from a forged one; NULL where there is no such
 * tenant or no such valid key.  BH_E_TOKEN_INVALID; where all else is right,
 * BH_E_TOKEN_EXPIRED for one past its time, BH_E_TOKEN_TENANT_MISMATCH for one
 * of another tenant than the door's.  A kid with another tenant epoch than the
 * door's, for the door's own tenant, is BH_E_TOKEN_INVALID (revoked); so is a token of another
 * tenant that has also expired.
 */
enum bh_code bh_usertoken_check(const struct bh_usertoken *token, struct bh_mac *mac,
    const struct bh_usertoken_door *door, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_usertoken_sign(mac, token, out, err):
 * Append a token with ${token}'s kid and the claims iss, aud, tenant, sub, iat, exp and, where
 * not empty, scope (iss is always "bulkhead", nbf is left out).  ${mac} is keyed with the tenant
 * user key.  BH_E_INVALID where a value would never be believed; BH_E_TOO_LARGE.
 */
enum bh_code bh_usertoken_sign(struct bh_mac *mac, const struct bh_usertoken *token,
    struct bh_buf *out, struct bh_error *err) BH_MUSTCHECK;

#endif
