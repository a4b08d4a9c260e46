/*
 * API keys: `bhk_<prefix>_<secret>`, the prefix visible in lists, the secret known to its holder
 * alone.  The edge finds the document `key/<hex>` by a keyed hash of the whole key;
 * doc/contract/apikey.md.
 */
#ifndef BH_CORE_APIKEY_H
#define BH_CORE_APIKEY_H

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/error.h"
#include "core/key.h"
#include "core/str.h"
#include "core/words.h"

#define BH_APIKEY_MARK "bhk_"
#define BH_APIKEY_PREFIX_BYTES 10 /* of keys that we make */
#define BH_APIKEY_SECRET_BYTES 40 /* of base62: 238 bits */
#define BH_APIKEY_MADE                                                                             \
    (sizeof(BH_APIKEY_MARK) + BH_APIKEY_PREFIX_BYTES + 1 + BH_APIKEY_SECRET_BYTES)
#define BH_APIKEY_MAX 160
#define BH_APIKEY_DIGEST_BYTES 32
#define BH_APIKEY_NAME (sizeof("key/") + 64) /* with the NUL */
#define BH_APIKEY_ROLES_MAX 32

/** bh_apikey_valid(key): has it the form, 8 to 32 letters and digits, 32 to 96 of them? */
bool bh_apikey_valid(struct bh_str key);

/** bh_apikey_prefix(key): the visible part, `bhk_<prefix>`; of a valid key. */
struct bh_str bh_apikey_prefix(struct bh_str key);

/**
 * bh_apikey_make(random, len, ret_key):
 * Word a key from ${len} random bytes, of which some are passed over: BH_E_INVALID where they do
 * not suffice (128 always do, but for one time in 2^60).
 */
enum bh_code bh_apikey_make(
    const uint8_t *random, size_t len, char ret_key[BH_APIKEY_MADE]) BH_MUSTCHECK;

/**
 * bh_apikey_digest(key, ret_digest, err) / bh_apikey_name(mac, digest, ret_name, err):
 * SHA-256 of the whole key, which the registry keeps; the name of its document in one cell, where
 * ${mac} is keyed with K_hash: "key/" and the hex digits of HMAC-SHA256(K_hash, digest).
 */
enum bh_code bh_apikey_digest(struct bh_str key, uint8_t ret_digest[BH_APIKEY_DIGEST_BYTES],
    struct bh_error *err) BH_MUSTCHECK;
enum bh_code bh_apikey_name(struct bh_mac *mac, const uint8_t digest[BH_APIKEY_DIGEST_BYTES],
    char ret_name[BH_APIKEY_NAME], struct bh_error *err) BH_MUSTCHECK;

/* What the document says. */
struct bh_apikey {
    int64_t no; /* of the tenant */
    struct bh_str sub;
    struct bh_str scope; /* words parted by single spaces; may be empty */
    struct bh_words roles;
    int64_t not_after_s; /* 0: without end */
    int64_t epoch;       /* the tenant's, while the key counts; -1: whichever */
};

/**
 * bh_apikey_parse(text, arena, ret_key, err):
 * Read the document; its texts live in ${arena}.  BH_E_BAD_REQUEST, BH_E_INVALID, BH_E_NO_MEMORY.
 */
enum bh_code bh_apikey_parse(struct bh_str text, struct bh_arena *arena, struct bh_apikey *ret_key,
    struct bh_error *err) BH_MUSTCHECK;

#endif
