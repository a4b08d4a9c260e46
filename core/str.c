#include "core/str.h"

#define WORD_MAX 63

struct bh_str
bh_str_of(const char *text)
{
    if (text == NULL)
        text = "";
    return (struct bh_str){text, strlen(text)};
}

static char
lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool
bh_str_eq_nocase(struct bh_str a, struct bh_str b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++) {
        if (a.data[i] != b.data[i] && lower(a.data[i]) != lower(b.data[i]))
            return false;
    }
    return true;
}

bool
bh_str_starts(struct bh_str s, const char *prefix)
{
    size_t len = strlen(prefix);
    return s.len >= len && (len == 0 || memcmp(s.data, prefix, len) == 0);
}

bool
bh_str_cut(struct bh_str s, char sep, struct bh_str *ret_head, struct bh_str *ret_tail)
{
    const char *at = s.len == 0 ? NULL : memchr(s.data, sep, s.len);
    if (at == NULL)
        return false;
    size_t head = (size_t)(at - s.data);
    *ret_head = (struct bh_str){s.data, head};
    *ret_tail = (struct bh_str){at + 1, s.len - head - 1};
    return true;
}

bool
bh_str_uint(struct bh_str s, uint64_t max, uint64_t *ret_value)
{
    if (s.len == 0 || (s.data[0] == '0' && s.len > 1))
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] < '0' || s.data[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(s.data[i] - '0');
        if (value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    if (value > max)
        return false;
    *ret_value = value;
    return true;
}

/* Well-formed sequences by their first byte: RFC 3629, table 3-7 of the Unicode standard. */
static const struct {
    unsigned char first_min, first_max, second_min, second_max, len;
} sequences[] = {
    {0x00, 0x7f, 0x00, 0x00, 1},
    {0xc2, 0xdf, 0x80, 0xbf, 2},
    {0xe0, 0xe0, 0xa0, 0xbf, 3},
    {0xe1, 0xec, 0x80, 0xbf, 3},
    {0xed, 0xed, 0x80, 0x9f, 3},
    {0xee, 0xef, 0x80, 0xbf, 3},
    {0xf0, 0xf0, 0x90, 0xbf, 4},
    {0xf1, 0xf3, 0x80, 0xbf, 4},
    {0xf4, 0xf4, 0x80, 0x8f, 4},
};

/* Length of the sequence at ${p}, 0 where it is ill-formed. */
static size_t
sequence_len(const unsigned char *p, size_t rest)
{
    size_t row = 0;
    while (row < sizeof(sequences) / sizeof(sequences[0]) &&
           (p[0] < sequences[row].first_min || p[0] > sequences[row].first_max))
        row++;
    if (row == sizeof(sequences) / sizeof(sequences[0]) || sequences[row].len > rest)
        return 0;
    size_t len = sequences[row].len;
    if (len > 1 && (p[1] < sequences[row].second_min || p[1] > sequences[row].second_max))
        return 0;
    for (size_t i = 2; i < len; i++) {
        if (p[i] < 0x80 || p[i] > 0xbf)
            return 0;
    }
    return len;
}

size_t
bh_utf8_prefix(struct bh_str s)
{
    const unsigned char *p = (const unsigned char *)s.data;
    size_t at = 0;
    while (at < s.len) {
        size_t len = p[at] < 0x80 ? 1 : sequence_len(p + at, s.len - at);
        if (len == 0)
            break;
        at += len;
    }
    return at;
}

bool
bh_utf8_valid(struct bh_str s)
{
    return bh_utf8_prefix(s) == s.len;
}

static size_t
least(size_t a, size_t b, size_t c)
{
    size_t ab = a < b ? a : b;
    return ab < c ? ab : c;
}

/*
 * The unrestricted distance (a swapped pair may be edited further): row and column 0 of the
 * table are a wall of ${far}, and seen[c] is the last row of ${a} that held byte c.
 */
size_t
bh_distance(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    if (a_len > WORD_MAX || b_len > WORD_MAX)
        return WORD_MAX + 1;
    unsigned char d[WORD_MAX + 2][WORD_MAX + 2];
    unsigned char seen[256] = {0};
    size_t far = a_len + b_len;
    for (size_t i = 0; i <= a_len; i++) {
        d[i + 1][0] = (unsigned char)far;
        d[i + 1][1] = (unsigned char)i;
    }
    for (size_t j = 0; j <= b_len; j++) {
        d[0][j + 1] = (unsigned char)far;
        d[1][j + 1] = (unsigned char)j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        size_t match = 0;
        for (size_t j = 1; j <= b_len; j++) {
            size_t row = seen[(unsigned char)b[j - 1]], column = match;
            size_t cost = a[i - 1] == b[j - 1] ? 0 : 1;
            if (cost == 0)
                match = j;
            size_t edit = least(d[i][j] + cost, d[i + 1][j] + 1u, d[i][j + 1] + 1u);
            size_t swap = d[row][column] + (i - row - 1) + 1 + (j - column - 1);
            d[i + 1][j + 1] = (unsigned char)(edit < swap ? edit : swap);
        }
        seen[(unsigned char)a[i - 1]] = (unsigned char)i;
    }
    return d[a_len + 1][b_len + 1];
}
