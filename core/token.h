/*
 * The tenant token: what carries a tenant's identity from the edge to a row.
 *
 * A canonical JWS (RFC 7515) with HS256; its exact bytes are
 * doc/contract/token.md.  Because every byte is fixed but for the values, the
 * parser needs no JSON and runs inside PostgreSQL.
 */
#ifndef BH_CORE_TOKEN_H
#define BH_CORE_TOKEN_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/error.h"
#include "core/key.h"
#include "core/str.h"

#define BH_TOKEN_MAX 1536
#define BH_TOKEN_SUB_MAX 255
#define BH_TOKEN_SCOPE_MAX 255
#define BH_TOKEN_LEEWAY_S 5
#define BH_TOKEN_REQUEST_LIFE_S 60
#define BH_TOKEN_JOB_LIFE_S 3600

enum bh_token_use { BH_TOKEN_REQUEST, BH_TOKEN_JOB };

struct bh_token {
    struct bh_str server;   /* aud, before the slash */
    struct bh_str database; /* aud, after it */
    int64_t exp_s;
    int64_t iat_s;
    int32_t no;
    struct bh_str scope; /* words parted by single spaces; may be empty */
    struct bh_str sub;
    struct bh_str tenant; /* id, for display */
    enum bh_token_use use;
    uint32_t epoch; /* "ver" */
};

/**
 * bh_token_word_valid(s) / bh_token_scope_valid(s):
 * Is ${s} of the alphabet `[!#-\[\]-~]` and 1–255 bytes; is it at most 255
 * bytes of such words with single spaces between them?
 */
bool bh_token_word_valid(struct bh_str s);
bool bh_token_scope_valid(struct bh_str s);

/** bh_token_has_scope(token, word): is ${word} one of its scopes? */
bool bh_token_has_scope(const struct bh_token *token, const char *word);

/**
 * bh_token_sign(mac, kid, token, out, err):
 * Append the token, signed by ${mac} (keyed with the *database's* key) under
 * ${kid}, to ${out}.  BH_E_INVALID where a value cannot be in a token;
 * BH_E_TOO_LARGE where it would exceed 1536 bytes or does not fit ${out}.
 */
enum bh_code bh_token_sign(struct bh_mac *mac, struct bh_str kid, const struct bh_token *token,
    struct bh_buf *out, struct bh_error *err) BH_MUSTCHECK;

/* A token that was taken apart but not believed yet. */
struct bh_token_parts {
    struct bh_str kid;
    struct bh_str signed_part; /* header.payload, what the MAC covers */
    uint8_t mac[BH_MAC_BYTES];
    char storage[BH_TOKEN_MAX]; /* decoded header and payload; kid and claims point here */
    struct bh_token claims;     /* not to be used before bh_token_check said BH_OK */
};

/**
 * bh_token_parse(text, ret_parts, err):
 * Take ${text} apart.  BH_E_TOKEN_INVALID unless every byte is as the contract
 * says.  ${ret_parts} borrows ${text} (signed_part), is filled also on failure,
 * and must not be moved (its strings point into itself).
 */
enum bh_code bh_token_parse(
    struct bh_str text, struct bh_token_parts *ret_parts, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_token_check(parts, mac, server, database, now_s, err):
 * Believe it?  BH_OK when the MAC is right (constant time) under ${mac}, aud is
 * ${server}/${database}, iat ≤ now + 5, exp > now − 5, and 0 < exp − iat ≤ 60
 * (job: 3600).  BH_E_TOKEN_INVALID; BH_E_TOKEN_EXPIRED only where all else is
 * right.  Tenant state and epoch are the caller's to check.
 */
enum bh_code bh_token_check(const struct bh_token_parts *parts, struct bh_mac *mac,
    struct bh_str server, struct bh_str database, int64_t now_s, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_token_check_claims(claims, server, database, now_s, err):
 * bh_token_check() without the MAC: for claims whose MAC this process has found
 * right under a key that it still has.
 */
enum bh_code bh_token_check_claims(const struct bh_token *claims, struct bh_str server,
    struct bh_str database, int64_t now_s, struct bh_error *err) BH_MUSTCHECK;

#endif
