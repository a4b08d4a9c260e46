/*
 * Time as int64: microseconds since the epoch (`_us`), or seconds (`_s`).
 * core reads no clock: the caller passes it in.
 */
#ifndef BH_CORE_TIME_H
#define BH_CORE_TIME_H

#include <stdbool.h>
#include <stdint.h>

#include "core/str.h"

#define BH_TIME_TEXT 25 /* "2026-11-21T12:00:00.000Z" and its NUL */

/**
 * bh_time_format(time_us, ret_text): RFC 3339 in UTC with milliseconds (years 1970–9999; others
 * are clamped).
 */
void bh_time_format(int64_t time_us, char ret_text[BH_TIME_TEXT]);

/**
 * bh_time_parse(text, ret_time_us):
 * Read RFC 3339 with `Z` or a numeric offset and 0–6 fraction digits.  Return
 * false for anything else, impossible dates and leap seconds included.
 */
bool bh_time_parse(struct bh_str text, int64_t *ret_time_us);

#endif
