#include "postgres.h"

#include "executor/executor.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "optimizer/planner.h"
#include "tcop/cmdtag.h"
#include "tcop/pquery.h"
#include "tcop/utility.h"

#include "data/compat.h"
#include "data/meter.h"
#include "data/meter_hook.h"
#include "data/settings.h"

static planner_hook_type next_planner;
static ExecutorStart_hook_type next_start;
static ExecutorRun_hook_type next_run;
static ExecutorFinish_hook_type next_finish;
static ProcessUtility_hook_type next_utility;
static needs_fmgr_hook_type next_needs_function;
static fmgr_hook_type next_function;

static PlannedStmt *
meter_planner(Query *query, const char *text, int options, ParamListInfo params)
{
    uint32 id = bh_meter_open(true);
    PlannedStmt *plan = next_planner ? next_planner(query, text, options, params)
                                     : standard_planner(query, text, options, params);

    bh_meter_close(id);
    return plan;
}

/* Triggers at the end of a transaction run outside of a portal: no statements of the client. */
static void
meter_start(QueryDesc *query, int flags)
{
    uint32 id = bh_meter_open(true);

    if (id != 0 && ActivePortal != NULL && query->plannedstmt->canSetTag)
        bh_meter_add(BH_USAGE_DB_STATEMENTS, 1);
    if (next_start)
        next_start(query, flags);
    else
        standard_ExecutorStart(query, flags);
    bh_meter_close(id);
}

static void
meter_run(QueryDesc *query, ScanDirection direction, uint64 count BH_ONCE_PARAM)
{
    uint32 id = bh_meter_open(true);

    if (next_run)
        next_run(query, direction, count BH_ONCE_ARG);
    else
        standard_ExecutorRun(query, direction, count BH_ONCE_ARG);
    if (id == 0)
        return;
    if (ActivePortal != NULL && query->plannedstmt->canSetTag)
        bh_meter_add(BH_USAGE_DB_ROWS, query->estate->es_processed);
    bh_meter_close(id);
}

/* Here run the triggers of what changed rows. */
static void
meter_finish(QueryDesc *query)
{
    bool changes = query->operation != CMD_SELECT || query->plannedstmt->hasModifyingCTE;
    uint32 id = changes ? bh_meter_open(false) : 0;

    if (next_finish)
        next_finish(query);
    else
        standard_ExecutorFinish(query);
    bh_meter_close(id);
}

static uint64
rows_of(const QueryCompletion *qc)
{
    if (qc == NULL)
        return 0;
    switch ((int)qc->commandTag) {
    case CMDTAG_COPY:
    case CMDTAG_FETCH:
    case CMDTAG_SELECT:
    case CMDTAG_REFRESH_MATERIALIZED_VIEW:
        return qc->nprocessed;
    default:
        return 0;
    }
}

static bool
waits_for_client(const Node *stmt)
{
    const CopyStmt *copy = (const CopyStmt *)stmt;

    return IsA(stmt, CopyStmt) && copy->is_from && copy->filename == NULL;
}

/* A statement may free its own tree: nothing of it is looked at afterwards. */
static void
meter_utility(PlannedStmt *pstmt, const char *text, bool read_only_tree,
    ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env, DestReceiver *dest,
    QueryCompletion *qc)
{
    bool transaction = IsA(pstmt->utilityStmt, TransactionStmt);
    uint32 id = bh_meter_open(!transaction);

    if (id != 0 && transaction)
        bh_meter_transaction((const TransactionStmt *)pstmt->utilityStmt);
    if (id != 0 && !transaction && pstmt->canSetTag)
        bh_meter_add(BH_USAGE_DB_STATEMENTS, 1);
    if (id != 0 && waits_for_client(pstmt->utilityStmt))
        bh_meter_use_processor_time(id);
    if (next_utility)
        next_utility(pstmt, text, read_only_tree, context, params, env, dest, qc);
    else
        standard_ProcessUtility(pstmt, text, read_only_tree, context, params, env, dest, qc);
    if (id != 0)
        bh_meter_add(BH_USAGE_DB_ROWS, rows_of(qc));
    bh_meter_close(id);
}

/* Functions that no query calls: triggers at the end of a transaction, checks of bound values. */
static bool
meter_needs_function(Oid funcid)
{
    return (next_needs_function && next_needs_function(funcid)) || bh_meter_outside();
}

static void
meter_function(FmgrHookEventType event, FmgrInfo *flinfo, Datum *arg)
{
    if (event == FHET_START)
        bh_meter_begin_function();
    else
        bh_meter_end_function(event == FHET_ABORT);
    if (next_function)
        next_function(event, flinfo, arg);
}

void
bh_meter_hook_install(void)
{
    if (!bh_metering)
        return;
    bh_meter_register();
    next_planner = planner_hook;
    planner_hook = meter_planner;
    next_start = ExecutorStart_hook;
    ExecutorStart_hook = meter_start;
    next_run = ExecutorRun_hook;
    ExecutorRun_hook = meter_run;
    next_finish = ExecutorFinish_hook;
    ExecutorFinish_hook = meter_finish;
    next_utility = ProcessUtility_hook;
    ProcessUtility_hook = meter_utility;
    next_needs_function = needs_fmgr_hook;
    needs_fmgr_hook = meter_needs_function;
    next_function = fmgr_hook;
    fmgr_hook = meter_function;
}
