/* The target of a request: percent-decoding, and the parameters after `?`. */
#ifndef BH_CONTROL_API_QUERY_H
#define BH_CONTROL_API_QUERY_H

#include "core/arena.h"
#include "core/error.h"
#include "core/fields.h"
#include "core/str.h"

#define BH_QUERY_MAX 16

struct bh_param {
    struct bh_str name;
    struct bh_str value; /* decoded, valid UTF-8 without NUL, NUL-terminated */
};

struct bh_query {
    struct bh_param params[BH_QUERY_MAX];
    size_t count;
};

/**
 * bh_percent_decode(raw, plus, arena, ret_text):
 * Decode %XX (and + as a space where ${plus}).  Return false for a broken
 * sequence, NUL, bytes that are not UTF-8, or lack of memory.
 */
bool bh_percent_decode(
    struct bh_str raw, bool plus, struct bh_arena *arena, struct bh_str *ret_text);

/**
 * bh_query_parse(raw, known, issues, ret_query):
 * Read the parameters in ${raw}; ${known} is a NULL-terminated list of names.
 * Unknown, repeated and undecodable ones go to ${issues} as "?name".
 */
void bh_query_parse(struct bh_str raw, const char *const *known, struct bh_issues *issues,
    struct bh_query *ret_query);

/** bh_query_get(query, name): its value (NUL-terminated), or NULL where absent. */
const char *bh_query_get(const struct bh_query *query, const char *name);

#endif
