#include "core/sip.h"

#include <endian.h>
#include <string.h>

static inline uint64_t
rotate(uint64_t value, unsigned bits)
{
    return value << bits | value >> (64 - bits);
}

static inline __attribute__((always_inline)) void
round_of(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

static void
compress(struct bh_sip *sip, uint64_t word)
{
    sip->v[3] ^= word;
    round_of(sip->v);
    round_of(sip->v);
    sip->v[0] ^= word;
}

static inline uint64_t
load(const uint8_t *data)
{
    uint64_t word;
    memcpy(&word, data, sizeof(word));
    return le64toh(word);
}

void
bh_sip_begin(struct bh_sip *sip, const uint8_t key[BH_SIP_KEY_BYTES])
{
    uint64_t k0 = load(key);
    uint64_t k1 = load(key + 8);
    *sip = (struct bh_sip){
        .v = {UINT64_C(0x736f6d6570736575) ^ k0, UINT64_C(0x646f72616e646f6d) ^ k1 ^ 0xee,
            UINT64_C(0x6c7967656e657261) ^ k0, UINT64_C(0x7465646279746573) ^ k1}};
}

void
bh_sip_add(struct bh_sip *sip, const void *data, size_t len)
{
    const uint8_t *bytes = data;
    size_t at = 0;
    for (; at < len && sip->len % 8 != 0; sip->len++) { /* fill the word that was begun */
        sip->tail |= (uint64_t)bytes[at++] << (8 * (sip->len % 8));
        if (sip->len % 8 == 7) {
            compress(sip, sip->tail);
            sip->tail = 0;
        }
    }
    for (; len - at >= 8; at += 8, sip->len += 8)
        compress(sip, load(bytes + at));
    for (; at < len; sip->len++)
        sip->tail |= (uint64_t)bytes[at++] << (8 * (sip->len % 8));
}

void
bh_sip_end(struct bh_sip *sip, uint64_t ret_hash[2])
{
    compress(sip, sip->tail | (uint64_t)(sip->len & 0xff) << 56);
    sip->v[2] ^= 0xee;
    for (unsigned i = 0; i < 4; i++)
        round_of(sip->v);
    ret_hash[0] = sip->v[0] ^ sip->v[1] ^ sip->v[2] ^ sip->v[3];
    sip->v[1] ^= 0xdd;
    for (unsigned i = 0; i < 4; i++)
        round_of(sip->v);
    ret_hash[1] = sip->v[0] ^ sip->v[1] ^ sip->v[2] ^ sip->v[3];
}
