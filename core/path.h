/*
 * Paths of requests, and the patterns that routes give for them.
 *
 * A pattern is a plain path; a segment `*` is any one segment, `**` as the last any rest, also
 * none.  Case matters; nothing is decoded here.
 */
#ifndef BH_CORE_PATH_H
#define BH_CORE_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"
#include "core/str.h"

/** bh_path_pattern_check(text, err): BH_OK where ${text} is a pattern; else BH_E_INVALID. */
enum bh_code bh_path_pattern_check(struct bh_str text, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_path_literal(pattern):
 * How many bytes at the start of ${pattern} every path begins with that it matches.
 */
size_t bh_path_literal(struct bh_str pattern);

/** bh_path_matches(pattern, path): does the normalised ${path}, a slash first, match? */
bool bh_path_matches(struct bh_str pattern, struct bh_str path);

/**
 * bh_path_plain(raw):
 * Does the raw path (with or without a query) read the same to every reader: nothing encoded that
 * a reader might take for / \ . ; or %, no `//`, `\`, `;` or `#`, no segment of dots?
 */
bool bh_path_plain(struct bh_str raw);

#endif
