/* enter(): a signed token binds this transaction to its tenant. */
#include "postgres.h"

#include "access/detoast.h"
#include "access/parallel.h"
#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"

#include "core/token.h"
#include "data/believed.h"
#include "data/compat.h"
#include "data/context.h"
#include "data/dirty.h"
#include "data/enter.h"
#include "data/raise.h"
#include "data/slot.h"
#include "data/tenant_table.h"

static const FuncExpr *expected_call;

void
bh_enter_expect(const FuncExpr *call)
{
    expected_call = call;
}

/* Is this the one call that may bind?  TN006 otherwise. */
static void
check_place(const FunctionCallInfo fcinfo)
{
    Oid user;
    int context;

    if (bh_context_bound())
        bh_raise_enter("a tenant is bound already");
    if (IsParallelWorker() || IsInParallelMode())
        bh_raise_enter("this is a parallel query");
    if (GetCurrentTransactionNestLevel() != 1)
        bh_raise_enter("this is a subtransaction");
    GetUserIdAndSecContext(&user, &context);
    if (user != GetSessionUserId() || context != 0)
        bh_raise_enter("the current user is not the login");
    if (expected_call == NULL || fcinfo->flinfo->fn_expr != (const Node *)expected_call)
        bh_raise_enter("it must be a statement of its own, sent by the client");
}

/* The bytes of the argument; it was detoasted where it came as more than plain bytes. */
static struct bh_str
bytes(const text *token)
{
    return (struct bh_str){VARDATA_ANY(token), bh_compat_length(token)};
}

#pragma GCC visibility push(default)
PG_FUNCTION_INFO_V1(bh_enter);
#pragma GCC visibility pop

Datum
bh_enter(PG_FUNCTION_ARGS)
{
    struct bh_tenant_row row;
    const struct bh_token *claims;
    struct bh_binding by = {.row = &row};

    check_place(fcinfo);
    if (PG_ARGISNULL(0))
        bh_raise_refused("it is NULL", NULL);
    if (toast_raw_datum_size(PG_GETARG_DATUM(0)) > BH_TOKEN_MAX + VARHDRSZ)
        bh_raise_refused("it is too long", NULL);
    claims = bh_believed_claims(bytes(PG_GETARG_TEXT_PP(0)));
    bh_slot_publish(claims->no, claims->epoch, claims->tenant);
    bh_slot_publish_subject(claims->sub);
    if (!bh_tenant_table_get(claims->no, &row, &by.generation))
        bh_raise_refused("its tenant is not in this database", NULL);
    if (!bh_str_is(claims->tenant, row.id))
        bh_raise_refused("its tenant's number and id do not belong together", NULL);
    bh_context_check_state(&row);
    if (row.epoch != claims->epoch)
        bh_raise_refused("it was revoked", "Use the token of the current request.");
    bh_dirty_check(row.mode);
    by.role = bh_context_role(&row.role);
    if (by.role == GetSessionUserId())
        bh_raise_enter("its role has rights beyond one tenant");
    by.subject = claims->sub;
    by.anonymous = bh_token_has_scope(claims, "anonymous");
    bh_context_bind(&by);
    PG_RETURN_VOID();
}
