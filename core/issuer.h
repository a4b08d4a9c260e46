/*
 * An outside issuer of tokens: the body of a document `issuer/<name>`, and what a token of it
 * says of a person.  doc/contract/issuer.md shows every member with its default.
 */
#ifndef BH_CORE_ISSUER_H
#define BH_CORE_ISSUER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/error.h"
#include "core/fields.h"
#include "core/json.h"
#include "core/jwk.h"
#include "core/jwt.h"
#include "core/str.h"
#include "core/words.h"

#define BH_ISSUER_AUDIENCES_MAX 16
#define BH_ISSUER_ROLES_MAX 256 /* of one token */

struct bh_issuer {
    struct bh_str issuer;      /* what `iss` must be, byte for byte */
    struct bh_words audiences; /* one of them must be in `aud` */
    unsigned algorithms;       /* bit i: enum bh_jwk_alg i */
    struct bh_jwks *jwks;      /* owned; NULL: no keys are known yet */
    struct bh_str subject;     /* paths of claims, as bh_jwt_claim takes them */
    struct bh_str tenant;      /* empty: its tokens name no tenant */
    struct bh_str roles;
    struct bh_str scope;
    struct bh_str subject_prefix; /* stands before each subject; may be empty */
    const struct bh_json
        *tenant_values; /* object: value of the tenant claim → tenant id, or NULL */
    int64_t leeway_s;
    int64_t max_age_s; /* since `iat`; 0: as long as `exp` says */
};

/**
 * bh_issuer_parse(text, arena, ret_issuer, err):
 * Read the document; its texts live in ${arena}.  Give it back with bh_issuer_fini.
 * BH_E_BAD_REQUEST, BH_E_INVALID with the first pointer, BH_E_NO_MEMORY; then there is nothing to
 * give back.
 */
enum bh_code bh_issuer_parse(struct bh_str text, struct bh_arena *arena,
    struct bh_issuer *ret_issuer, struct bh_error *err) BH_MUSTCHECK;

/** bh_issuer_fini(issuer): free its keys; twice is fine. */
void bh_issuer_fini(struct bh_issuer *issuer);

/**
 * bh_issuer_read(value, at, arena, issues, ret_issuer):
 * The same from a value that was parsed, for who also reads other members of it; what is wrong goes
 * to ${issues} with pointers below ${at}.  ${ret_issuer} holds keys only where nothing is wrong.
 */
void bh_issuer_read(const struct bh_json *value, const char *at, struct bh_arena *arena,
    struct bh_issues *issues, struct bh_issuer *ret_issuer);

/* Who shows a token, as far as it says. */
struct bh_person {
    struct bh_str sub;
    struct bh_str scope;   /* words parted by single spaces; may be empty */
    struct bh_words roles; /* those that a policy can name */
    int64_t until_s;       /* the token counts before this second */
};

/* Whose door it is shown at. */
struct bh_issuer_door {
    struct bh_str tenant; /* id */
    int64_t now_s;
};

/**
 * bh_issuer_check(issuer, jwt, door, arena, ret_person, err):
 * Believe ${jwt}, whose `iss` the caller compared?  All that costs little is asked before the
 * signature.  BH_E_NOT_READY where the issuer's keys are not known yet; BH_E_TOKEN_INVALID; where
 * all else is right, BH_E_TOKEN_EXPIRED, or BH_E_TOKEN_TENANT_MISMATCH for one whose tenant claim
 * names others (both at once: BH_E_TOKEN_INVALID).  Texts live in ${arena} or with ${jwt}.
 */
enum bh_code bh_issuer_check(const struct bh_issuer *issuer, const struct bh_jwt *jwt,
    const struct bh_issuer_door *door, struct bh_arena *arena, struct bh_person *ret_person,
    struct bh_error *err) BH_MUSTCHECK;

#endif
