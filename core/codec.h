/* Bytes from text: strict decoders, and constant-time comparison. */
#ifndef BH_CORE_CODEC_H
#define BH_CORE_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/str.h"

/**
 * bh_base64url_decode(text, ret_data, size, ret_len):
 * Decode canonical base64url without padding (RFC 4648 section 5; unused bits
 * zero) into at most ${size} bytes.  Return false for anything else.
 */
bool bh_base64url_decode(struct bh_str text, uint8_t *ret_data, size_t size, size_t *ret_len);

/**
 * bh_hex_decode(text, ret_data, size):
 * Decode exactly 2 × ${size} hexadecimal digits of either case.
 */
bool bh_hex_decode(struct bh_str text, uint8_t *ret_data, size_t size);

/** bh_equal_ct(a, b, len): same bytes?  Takes the same time either way. */
bool bh_equal_ct(const void *a, const void *b, size_t len);

/** bh_wipe(data, len): overwrite a secret; never optimised away. */
void bh_wipe(void *data, size_t len);

#endif
