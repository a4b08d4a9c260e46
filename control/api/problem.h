/* Errors as RFC 9457 problems: `application/problem+json`. */
#ifndef BH_CONTROL_API_PROBLEM_H
#define BH_CONTROL_API_PROBLEM_H

#include "core/buf.h"
#include "core/error.h"
#include "core/fields.h"

/* A problem's `type` is this and the slug of core/tbl/errors.def (doc/contract/errors.md). */
#define BH_PROBLEM_TYPE "https://bulkhead.dev/errors/"
#define BH_PROBLEM_CONTENT_TYPE "application/problem+json"

/**
 * bh_problem_write(out, err, issues, request_id):
 * Append ${err} as a problem.  `errors` lists ${issues} (may be NULL), or the
 * place in ${err} where it has one.
 */
void bh_problem_write(struct bh_buf *out, const struct bh_error *err,
    const struct bh_issues *issues, const char *request_id);

#endif
