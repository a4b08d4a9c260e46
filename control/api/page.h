/*
 * Pages of a list: the parameters `limit` and `page_token`, and the envelope.
 *
 * A page token holds the key of the last item and a digest of the filters, so
 * that it is refused with other ones.  It grants nothing: whoever forges one
 * gets another page of what they may read anyway.
 */
#ifndef BH_CONTROL_API_PAGE_H
#define BH_CONTROL_API_PAGE_H

#include "control/api/api.h"
#include "control/api/write.h"

/**
 * bh_page_read(request, ret_limit, ret_after):
 * Read limit (default 50) and page_token; ${ret_after} is the key that the
 * token holds, or NULL.  What is wrong goes to request->issues.
 */
void bh_page_read(struct bh_request *request, int *ret_limit, const char **ret_after);

/** bh_page_begin(writer): `{"items":[`.  bh_page_end(request, writer, last_key): the rest;
 * ${last_key} NULL: no next page. */
void bh_page_begin(struct bh_writer *writer);
void bh_page_end(struct bh_request *request, struct bh_writer *writer, const char *last_key);

/** bh_param_bad(request, name, detail): the parameter ${name} is wrong. */
void bh_param_bad(struct bh_request *request, const char *name, const char *detail);

/** bh_param_time(request, name, time_us): the parameter ${name} as a time into ${time_us}, which
 * stays as it is where the parameter is absent or wrong (request->issues). */
void bh_param_time(struct bh_request *request, const char *name, int64_t *time_us);

struct bh_shown;

/** bh_shown_write(request, reply, rows, count, more): a page of rows that are JSON already. */
void bh_shown_write(struct bh_request *request, struct bh_reply *reply, const struct bh_shown *rows,
    size_t count, bool more);

#endif
