/*
 * SQL for one tenant: each call is one transaction that begins by showing the
 * request's tenant token to bulkhead.enter().
 *
 * A read is [enter, query, Sync], one implicit transaction and one round trip.
 * A write is BEGIN … COMMIT in one pipeline, rolled back upon any error.
 * Statements are unnamed: PgBouncer before 1.21 mixes up named ones.  The
 * query is parsed after enter() has bound the tenant, so plain table names
 * mean the tenant's tables.
 */
#ifndef SHOP_QUERY_H
#define SHOP_QUERY_H

#include <libpq-fe.h>
#include <stdbool.h>

#include "http.h"

struct shop_statement {
    const char *sql;
    int count; /* of parameters */
    const char *const *params;
};

/**
 * shop_has_tenant(request, reply):
 * Does the request say, in the right form, for whom to work and where?  The
 * edge always does.  Else 401 or 400 in ${reply}; whether the token is true is
 * for the database to say.  Must hold before the two below.
 */
bool shop_has_tenant(const struct shop_request *request, struct shop_reply *reply);

/**
 * shop_read(request, statement, reply):
 * Run one query as the request's tenant.  The caller PQclears the result; NULL
 * with the problem in ${reply}.  Repeated once on a fresh connection when the
 * connection was lost or the tenant has just moved.
 */
PGresult *shop_read(const struct shop_request *request, const struct shop_statement *statement,
    struct shop_reply *reply);

/**
 * shop_answer(result, missing, reply):
 * Answer with the one row of ${result}, which is JSON, or 404 with ${missing};
 * PQclears it.  NULL leaves ${reply} as it is.
 */
void shop_answer(PGresult *result, const char *missing, struct shop_reply *reply);

/**
 * shop_write(request, statements, count, reply):
 * Run up to four ${statements} as one transaction and return the result of the
 * last.  Repeated only where it is certain that nothing was done.
 */
PGresult *shop_write(const struct shop_request *request, const struct shop_statement *statements,
    size_t count, struct shop_reply *reply);

#endif
