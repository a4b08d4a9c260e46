/* Rules of what agents post: /v1/usage and /v1/leases. */
#ifndef BH_CONTROL_API_POSTED_H
#define BH_CONTROL_API_POSTED_H

#include "control/api/api.h"

#define BH_SOURCE_MAX 128

/** bh_posted_source_rule(text, err) / bh_posted_time_rule(text, err): rules of the fields `source`
 * and of times (core/fields.h). */
enum bh_code bh_posted_source_rule(struct bh_str text, struct bh_error *err) BH_MUSTCHECK;
enum bh_code bh_posted_time_rule(struct bh_str text, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_posted_source_check(request, source, err):
 * Is ${source} the agent that asks, or below it (`<id>/…`)?  BH_E_NOT_PERMITTED.
 */
enum bh_code bh_posted_source_check(
    struct bh_request *request, struct bh_str source, struct bh_error *err) BH_MUSTCHECK;

#endif
