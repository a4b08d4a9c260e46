/*
 * Public keys of an issuer (RFC 7517, 7518, 8037), and signatures under them.
 * One algorithm per key; the header of a token never chooses (RFC 8725).
 */
#ifndef BH_CORE_JWK_H
#define BH_CORE_JWK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/json.h"
#include "core/str.h"

#define BH_JWKS_BYTES 65536
#define BH_JWKS_KEYS 64
#define BH_JWK_KID_MAX 255

enum bh_jwk_alg {
    BH_JWK_RS256, /* RSASSA-PKCS1-v1_5, SHA-256, 2048 to 8192 bits */
    BH_JWK_ES256, /* ECDSA on P-256, SHA-256 */
    BH_JWK_EDDSA, /* Ed25519 */
    BH_JWK_ALG_COUNT
};

/** bh_jwk_alg_name(alg) → "RS256"; bh_jwk_alg_find(name, ret_alg) → false where it is none of ours.
 */
const char *bh_jwk_alg_name(enum bh_jwk_alg alg);
bool bh_jwk_alg_find(struct bh_str name, enum bh_jwk_alg *ret_alg);

struct bh_jwk;  /* one key */
struct bh_jwks; /* a set, malloc'ed; its owner frees it */

/**
 * bh_jwks_parse(text, ret_jwks, err):
 * Read a JWK set.  Keys for another use or algorithm are left out, as RFC 7517
 * section 5 has it.  BH_E_INVALID, naming the key by its place, for a set that is no
 * strict JSON, is longer than BH_JWKS_BYTES, has more than BH_JWKS_KEYS keys,
 * two of one kid, a private or symmetric key, a key that is malformed or weak,
 * or none that can be used.
 */
enum bh_code bh_jwks_parse(
    struct bh_str text, struct bh_jwks **ret_jwks, struct bh_error *err) BH_MUSTCHECK;

/** bh_jwks_read(set, ret_jwks, err): the same from JSON that was parsed; borrows nothing. */
enum bh_code bh_jwks_read(
    const struct bh_json *set, struct bh_jwks **ret_jwks, struct bh_error *err) BH_MUSTCHECK;
void bh_jwks_free(struct bh_jwks *jwks);

/** bh_jwks_count(jwks): how many keys can be used. */
size_t bh_jwks_count(const struct bh_jwks *jwks);

/**
 * bh_jwks_find(jwks, kid, alg):
 * The key of that kid, if its algorithm is ${alg}.  Where ${kid} is empty (the
 * token names none): the only key of that algorithm, if it is the only one.
 * NULL otherwise; borrowed.
 */
const struct bh_jwk *bh_jwks_find(
    const struct bh_jwks *jwks, struct bh_str kid, enum bh_jwk_alg alg);

/** bh_jwk_verify(jwk, message, signature, len): is it the key's signature (JWS form) of ${message}?
 */
bool bh_jwk_verify(
    const struct bh_jwk *jwk, struct bh_str message, const uint8_t *signature, size_t len);

#endif
