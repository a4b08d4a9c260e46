/* Problem details (RFC 9457), as answers of the API and as what the registry remembers of a failure. */
#ifndef BH_CONTROL_PROBLEM_H
#define BH_CONTROL_PROBLEM_H

#include "core/buf.h"
#include "core/error.h"

/**
 * bh_problem_members(out, err):
 * Append the members type, title, status, detail, code and, where there is one,
 * hint of ${err} to ${out}, without braces, so that the caller can add its own.
 */
void bh_problem_members(struct bh_buf *out, const struct bh_error *err);

/** bh_problem_write(out, err): the same as a whole JSON object. */
void bh_problem_write(struct bh_buf *out, const struct bh_error *err);

/* Room for the JSON of any struct bh_error, even where every byte is escaped. */
#define BH_PROBLEM_MAX (6 * (BH_DETAIL_MAX + BH_HINT_MAX) + 512)

#endif
