/*
 * Text with a length, the shape of nginx's ngx_str_t: not NUL-terminated,
 * never owned.
 */
#ifndef BH_CORE_STR_H
#define BH_CORE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bh_str {
    const char *data;
    size_t len;
};

#define BH_STR(literal) ((struct bh_str){"" literal, sizeof(literal) - 1})

/** bh_str_of(text): the bytes of NUL-terminated ${text}; NULL gives an empty one. */
struct bh_str bh_str_of(const char *text);

/** bh_str_eq(a, b) / bh_str_is(a, text): same bytes? (not constant time)  Inline: a comparison with
 * a literal is of a few instructions. */
static inline bool
bh_str_eq(struct bh_str a, struct bh_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline bool
bh_str_is(struct bh_str a, const char *text)
{
    return bh_str_eq(a, (struct bh_str){text, strlen(text)});
}

/** bh_str_eq_nocase(a, b): the same but for the case of ASCII letters, whatever the locale? */
bool bh_str_eq_nocase(struct bh_str a, struct bh_str b);

/** bh_str_starts(s, prefix): does ${s} begin with ${prefix}? */
bool bh_str_starts(struct bh_str s, const char *prefix);

/**
 * bh_str_cut(s, sep, ret_head, ret_tail):
 * Cut ${s} at its first ${sep}.  Return false, and write nothing, where there
 * is none.
 */
bool bh_str_cut(struct bh_str s, char sep, struct bh_str *ret_head, struct bh_str *ret_tail);

/**
 * bh_str_uint(s, max, ret_value):
 * Read ${s} as decimal digits only: no sign, no leading zero, 0 to ${max}.
 * Return false, and write nothing, for anything else.
 */
bool bh_str_uint(struct bh_str s, uint64_t max, uint64_t *ret_value);

/**
 * bh_utf8_valid(s):
 * Is ${s} well-formed UTF-8 (RFC 3629: no surrogates, nothing overlong)?
 */
bool bh_utf8_valid(struct bh_str s);

/** bh_utf8_prefix(s): how many bytes at the start of ${s} are well-formed UTF-8. */
size_t bh_utf8_prefix(struct bh_str s);

/**
 * bh_distance(a, b):
 * Damerau-Levenshtein distance of two short words (at most 63 bytes each;
 * longer ones count as 64 apart), for "did you mean".
 */
size_t bh_distance(const char *a, const char *b);

#endif
