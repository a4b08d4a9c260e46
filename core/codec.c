#include "core/codec.h"

#include <openssl/crypto.h>

/* Value of a base64url digit plus one; 0 where it is none. */
static const uint8_t digits[256] = {
    ['A'] = 1,
    ['B'] = 2,
    ['C'] = 3,
    ['D'] = 4,
    ['E'] = 5,
    ['F'] = 6,
    ['G'] = 7,
    ['H'] = 8,
    ['I'] = 9,
    ['J'] = 10,
    ['K'] = 11,
    ['L'] = 12,
    ['M'] = 13,
    ['N'] = 14,
    ['O'] = 15,
    ['P'] = 16,
    ['Q'] = 17,
    ['R'] = 18,
    ['S'] = 19,
    ['T'] = 20,
    ['U'] = 21,
    ['V'] = 22,
    ['W'] = 23,
    ['X'] = 24,
    ['Y'] = 25,
    ['Z'] = 26,
    ['a'] = 27,
    ['b'] = 28,
    ['c'] = 29,
    ['d'] = 30,
    ['e'] = 31,
    ['f'] = 32,
    ['g'] = 33,
    ['h'] = 34,
    ['i'] = 35,
    ['j'] = 36,
    ['k'] = 37,
    ['l'] = 38,
    ['m'] = 39,
    ['n'] = 40,
    ['o'] = 41,
    ['p'] = 42,
    ['q'] = 43,
    ['r'] = 44,
    ['s'] = 45,
    ['t'] = 46,
    ['u'] = 47,
    ['v'] = 48,
    ['w'] = 49,
    ['x'] = 50,
    ['y'] = 51,
    ['z'] = 52,
    ['0'] = 53,
    ['1'] = 54,
    ['2'] = 55,
    ['3'] = 56,
    ['4'] = 57,
    ['5'] = 58,
    ['6'] = 59,
    ['7'] = 60,
    ['8'] = 61,
    ['9'] = 62,
    ['-'] = 63,
    ['_'] = 64,
};

/* The last two or three digits, whose unused bits must be zero. */
static bool
decode_rest(const unsigned char *in, size_t len, uint8_t *out)
{
    uint32_t bits = 0;
    for (size_t i = 0; i < len; i++) {
        if (digits[in[i]] == 0)
            return false;
        bits = bits << 6 | (digits[in[i]] - 1u);
    }
    bits <<= 6 * (4 - len);
    for (size_t i = 0; i + 1 < len; i++, bits = bits << 8 & 0xffffff)
        out[i] = (uint8_t)(bits >> 16);
    return bits == 0;
}

bool
bh_base64url_decode(struct bh_str text, uint8_t *ret_data, size_t size, size_t *ret_len)
{
    const unsigned char *in = (const unsigned char *)text.data;
    size_t rest = text.len % 4;
    size_t len = text.len / 4 * 3 + (rest == 0 ? 0 : rest - 1);
    if (rest == 1 || len > size)
        return false;
    for (size_t groups = text.len / 4; groups > 0; groups--, in += 4, ret_data += 3) {
        uint32_t a = digits[in[0]], b = digits[in[1]], c = digits[in[2]], d = digits[in[3]];
        if (a == 0 || b == 0 || c == 0 || d == 0)
            return false;
        uint32_t bits = (a - 1) << 18 | (b - 1) << 12 | (c - 1) << 6 | (d - 1);
        ret_data[0] = (uint8_t)(bits >> 16);
        ret_data[1] = (uint8_t)(bits >> 8);
        ret_data[2] = (uint8_t)bits;
    }
    if (rest != 0 && !decode_rest(in, rest, ret_data))
        return false;
    *ret_len = len;
    return true;
}

static int
hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool
bh_hex_decode(struct bh_str text, uint8_t *ret_data, size_t size)
{
    if (text.len % 2 != 0 || text.len / 2 != size)
        return false;
    for (size_t i = 0; i < size; i++) {
        int high = hex_value(text.data[2 * i]), low = hex_value(text.data[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        ret_data[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

#define STEP 32

typedef uint64_t word __attribute__((aligned(1), may_alias));

/* Zero where ${STEP} bytes are the same. */
static inline uint64_t
differ(const unsigned char *left, const unsigned char *right)
{
    const word *x = (const void *)left, *y = (const void *)right;
    return (x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]) | (x[3] ^ y[3]);
}

/*
 * In steps: CRYPTO_memcmp goes byte by byte, and the edge compares a whole
 * credential at each request.  The last step goes over bytes that were seen.  The
 * empty asm keeps the compiler from learning that a difference decides early.
 */
bool
bh_equal_ct(const void *a, const void *b, size_t len)
{
    const unsigned char *left = a, *right = b;
    uint64_t difference = 0;
    size_t at = 0;
    for (; at + STEP <= len; at += STEP) {
        difference |= differ(left + at, right + at);
        __asm__("" : "+r"(difference));
    }
    if (at < len && len >= STEP) {
        difference |= differ(left + len - STEP, right + len - STEP);
        at = len;
    }
    for (; at < len; at++)
        difference |= (uint64_t)(left[at] ^ right[at]);
    __asm__("" : "+r"(difference));
    return difference == 0;
}

void
bh_wipe(void *data, size_t len)
{
    OPENSSL_cleanse(data, len);
}
