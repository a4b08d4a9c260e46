#include "postgres.h"

#include "data/raise.h"

void
bh_raise_unbound(void)
{
    ereport(ERROR,
        (errcode(BH_TN_UNBOUND), errmsg("no tenant is bound to this transaction"),
            errhint("Send SELECT bulkhead.enter($1) with the request's tenant token first, in the "
                    "same transaction.")));
}

/* The statement may hold a token as a literal: it stays out of the log. */
void
bh_raise_refused(const char *why, const char *hint)
{
    ereport(ERROR, (errcode(BH_TN_REFUSED), errmsg("token refused: %s", why),
                       hint ? errhint("%s", hint) : 0, errhidestmt(true)));
}

void
bh_raise_statement(const char *what)
{
    ereport(
        ERROR, (errcode(BH_TN_STATEMENT), errmsg("%s is not allowed while a tenant is bound", what),
                   errhint("It would outlive the transaction or leave the tenant.")));
}

void
bh_raise_limit(const char *name)
{
    ereport(ERROR,
        (errcode(BH_TN_STATEMENT), errmsg("%s above the tenant's limit is not allowed", name),
            errhint("Use less, or ask the operator for a higher limit.")));
}

void
bh_raise_enter(const char *why)
{
    ereport(ERROR, (errcode(BH_TN_ENTER), errmsg("tenant cannot be bound here: %s", why),
                       errhint("Send SELECT bulkhead.enter($1) once, as the first statement of a "
                               "transaction."),
                       errhidestmt(true)));
}

void
bh_raise_share(const char *limit, int retry_ms)
{
    ereport(ERROR,
        (errcode(BH_TN_OVER), errmsg("tenant is over its limit %s", limit),
            errdetail("limit=%s retry_after_ms=%d", limit, retry_ms),
            errhint("Retry the transaction in %d ms, or ask the operator for a higher limit.",
                retry_ms)));
}
