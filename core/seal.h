/*
 * Secrets that travel or rest beside what anybody may read: sealed for one name.
 *
 * AES-256-GCM (NIST SP 800-38D).  The text is base64url of nonce (12 bytes) ‖ ciphertext ‖ tag
 * (16 bytes); the name is authenticated with it, so that it opens under no other one.
 * Golden vectors: tests/golden/seal.json.
 */
#ifndef BH_CORE_SEAL_H
#define BH_CORE_SEAL_H

#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/error.h"
#include "core/key.h"
#include "core/str.h"

#define BH_SEAL_NONCE 12
#define BH_SEAL_TAG 16
#define BH_SEAL_PLAIN_MAX 16384

/**
 * bh_seal(key, nonce, name, plain, out, err):
 * Append ${plain} (at most BH_SEAL_PLAIN_MAX bytes), sealed under ${key} for ${name}, to ${out}.
 * ${nonce} must be random and never used again with this key.  BH_E_TOO_LARGE, BH_E_INTERNAL.
 */
enum bh_code bh_seal(const struct bh_key *key, const uint8_t nonce[BH_SEAL_NONCE],
    struct bh_str name, struct bh_str plain, struct bh_buf *out, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_unseal(key, name, sealed, plain, err):
 * Open what was sealed under ${key} for ${name} into ${plain} (made with room for it; wiped and
 * empty on failure).  The caller wipes it.  BH_E_INVALID where it is not whole, or of another key
 * or name; the detail never has any of it.
 */
enum bh_code bh_unseal(const struct bh_key *key, struct bh_str name, struct bh_str sealed,
    struct bh_buf *plain, struct bh_error *err) BH_MUSTCHECK;

#endif
