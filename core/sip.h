/*
 * SipHash-2-4 with 128 bits (Aumasson and Bernstein 2012; the reference code's
 * variant for 16 bytes): places in a table that nobody can aim at without the key.
 */
#ifndef BH_CORE_SIP_H
#define BH_CORE_SIP_H

#include <stddef.h>
#include <stdint.h>

#define BH_SIP_KEY_BYTES 16

struct bh_sip {
    uint64_t v[4];
    uint64_t tail; /* bytes that do not fill a word yet */
    size_t len;
};

/** bh_sip_begin(sip, key): start with 16 bytes of key. */
void bh_sip_begin(struct bh_sip *sip, const uint8_t key[BH_SIP_KEY_BYTES]);

/** bh_sip_add(sip, data, len): feed. */
void bh_sip_add(struct bh_sip *sip, const void *data, size_t len);

/** bh_sip_end(sip, ret_hash): the 16 bytes as two little-endian words. */
void bh_sip_end(struct bh_sip *sip, uint64_t ret_hash[2]);

#endif
