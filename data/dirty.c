#include "postgres.h"

#include "catalog/namespace.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "funcapi.h"
#include "nodes/execnodes.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/tuplestore.h"

#include "data/compat.h"
#include "data/dirty.h"
#include "data/pooler.h"
#include "data/raise.h"
#include "data/settings.h"

static bool looked_through;

void
bh_dirty_note(void)
{
    looked_through = false;
}

static void
reject(const char *what)
{
    ereport(FATAL,
        (errcode(BH_TN_ENTER), errmsg("tenant cannot be bound here: the session has %s", what),
            errdetail("The next tenant on this connection would find it."),
            errhint("Connect again; keep this login for applications that call enter().")));
}

static bool
temporary_objects(void)
{
    Oid schema;
    Oid toast_schema;

    GetTempNamespaceState(&schema, &toast_schema);
    return OidIsValid(schema);
}

/* ---- what only functions of PostgreSQL can list ---- */

static void
call_set(Oid function, ReturnSetInfo *rsinfo)
{
    FmgrInfo info;
    LOCAL_FCINFO(fcinfo, 0);

    fmgr_info(function, &info);
    InitFunctionCallInfoData(*fcinfo, &info, 0, InvalidOid, NULL, (Node *)rsinfo);
    fcinfo->isnull = false;
    FunctionCallInvoke(fcinfo);
}

static int
column_named(TupleDesc desc, const char *name)
{
    for (int i = 0; i < desc->natts; i++)
        if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
            return i + 1;
    elog(ERROR, "this server's function has no column %s", name);
    return 0;
}

/* Is one of the rows of ${function} true in ${column}? */
static bool
any_true(Oid function, const char *column)
{
    ExprContext *context = CreateStandaloneExprContext();
    ReturnSetInfo rsinfo = {
        .type = T_ReturnSetInfo, .econtext = context, .allowedModes = SFRM_Materialize};
    TupleTableSlot *slot;
    bool found = false;

    call_set(function, &rsinfo);
    slot = MakeSingleTupleTableSlot(rsinfo.setDesc, &TTSOpsMinimalTuple);
    while (!found && tuplestore_gettupleslot(rsinfo.setResult, true, false, slot)) {
        bool isnull;
        Datum value = slot_getattr(slot, column_named(rsinfo.setDesc, column), &isnull);

        found = !isnull && DatumGetBool(value);
    }
    ExecDropSingleTupleTableSlot(slot);
    tuplestore_end(rsinfo.setResult);
    FreeExprContext(context, true);
    return found;
}

static bool
listens(void)
{
    ExprContext *context = CreateStandaloneExprContext();
    ReturnSetInfo rsinfo = {
        .type = T_ReturnSetInfo, .econtext = context, .allowedModes = SFRM_ValuePerCall};

    call_set(F_PG_LISTENING_CHANNELS, &rsinfo);
    FreeExprContext(context, true);
    return rsinfo.isDone != ExprEndResult;
}

/* ---- locks and settings ---- */

static bool
is_advisory(const PROCLOCK *held)
{
    return held->tag.myLock->tag.locktag_lockmethodid == USER_LOCKMETHOD;
}

/* This transaction is enter()'s and has taken none, so it is the session's. */
static bool
advisory_locks(void)
{
    bool found = false;

    for (int i = 0; i < NUM_LOCK_PARTITIONS && !found; i++) {
        LWLockAcquire(LockHashPartitionLockByIndex(i), LW_SHARED);
        found = bh_compat_any_lock(i, is_advisory);
        LWLockRelease(LockHashPartitionLockByIndex(i));
    }
    return found;
}

/* Ours are the operator's to set; the others here are not what SET left behind. */
static bool
set_by_session(const struct config_generic *setting)
{
    static const char *const others[] = {"role", "session_authorization", "is_superuser"};

    if (setting->source != PGC_S_SESSION || bh_pooler_setting(setting->name) ||
        strncmp(setting->name, "transaction_", strlen("transaction_")) == 0 ||
        strncmp(setting->name, "bulkhead.", strlen("bulkhead.")) == 0)
        return false;
    for (size_t i = 0; i < lengthof(others); i++)
        if (strcmp(setting->name, others[i]) == 0)
            return false;
    return true;
}

static bool
session_settings(void)
{
    int count;
    struct config_generic **all = bh_compat_settings(&count);

    for (int i = 0; i < count; i++)
        if (set_by_session(all[i]))
            return true;
    return false;
}

void
bh_dirty_check(enum bh_mode mode)
{
    if (bh_mode_own(mode))
        return;
    if (temporary_objects())
        reject("temporary objects");
    if (looked_through && bh_settings_pool_session())
        return;
    if (session_settings())
        reject("settings of its own");
    if (advisory_locks())
        reject("advisory locks");
    if (any_true(F_PG_CURSOR, "is_holdable"))
        reject("a cursor WITH HOLD");
    if (any_true(F_PG_PREPARED_STATEMENT, "from_sql"))
        reject("statements of PREPARE");
    if (listens())
        reject("channels that it listens to");
    looked_through = bh_settings_pool_session();
}
