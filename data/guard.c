#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_proc.h"
#include "commands/defrem.h"
#include "executor/executor.h"
#include "nodes/parsenodes.h"
#include "optimizer/planner.h"
#include "tcop/pquery.h"
#include "tcop/utility.h"
#include "utils/portal.h"

#include "data/compat.h"
#include "data/constant.h"
#include "data/context.h"
#include "data/enter.h"
#include "data/guard.h"
#include "data/limit.h"
#include "data/log.h"
#include "data/login.h"
#include "data/memory.h"
#include "data/pooler.h"
#include "data/raise.h"
#include "data/sets.h"
#include "data/settings.h"
#include "data/tenant_table.h"

static planner_hook_type next_planner;
static ExecutorStart_hook_type next_executor_start;
static ExecutorRun_hook_type next_executor_run;
static ProcessUtility_hook_type next_utility;
static object_access_hook_type next_object_access;

/* Depth of planning and starting that was found constant: only there may functions be called. */
static int constant_depth;

/* A pool role in a transaction without tenant. Workers do what their leader was allowed to. */
static bool
denied_by_default(void)
{
    return !bh_context_bound() && !IsParallelWorker() && bh_settings_pool_session();
}

/* ---- utility statements outside a bound transaction ---- */

static bool
set_allowed(const VariableSetStmt *stmt)
{
    switch (stmt->kind) {
    case VAR_RESET_ALL:
        return true;
    case VAR_SET_MULTI:
        return stmt->name != NULL && strcmp(stmt->name, "TRANSACTION") == 0;
    case VAR_SET_VALUE:
    case VAR_SET_DEFAULT:
        return bh_pooler_setting(stmt->name);
    case VAR_SET_CURRENT:
    case VAR_RESET:
        return false;
    }
    return false;
}

/*
 * pgjdbc sends SET extra_float_digits = 3 to a new connection, and others 2.  All of
 * 1 (the default), 2 and 3 print the same since PostgreSQL 12: so say yes and leave
 * the session, which PgBouncer gives to others, as it is.
 */
static bool
changes_nothing(const Node *stmt)
{
    const VariableSetStmt *set = (const VariableSetStmt *)stmt;
    const A_Const *value;

    if (!IsA(stmt, VariableSetStmt) || set->kind != VAR_SET_VALUE || set->name == NULL ||
        pg_strcasecmp(set->name, "extra_float_digits") != 0 || list_length(set->args) != 1)
        return false;
    value = linitial(set->args);
    return IsA(value, A_Const) && !value->isnull && IsA(&value->val, Integer) &&
           intVal(&value->val) >= 1 && intVal(&value->val) <= 3;
}

static bool
transaction_allowed(const TransactionStmt *stmt)
{
    return stmt->kind != TRANS_STMT_PREPARE && stmt->kind != TRANS_STMT_COMMIT_PREPARED &&
           stmt->kind != TRANS_STMT_ROLLBACK_PREPARED;
}

static bool
utility_allowed_unbound(const Node *stmt)
{
    switch ((int)nodeTag(stmt)) {
    case T_TransactionStmt:
        return transaction_allowed((const TransactionStmt *)stmt);
    case T_VariableSetStmt:
        return set_allowed((const VariableSetStmt *)stmt);
    case T_VariableShowStmt:
        return true;
    case T_ClosePortalStmt:
        return ((const ClosePortalStmt *)stmt)->portalname == NULL;
    case T_UnlistenStmt:
        return ((const UnlistenStmt *)stmt)->conditionname == NULL;
    case T_DiscardStmt:
        return bh_discard_all && ((const DiscardStmt *)stmt)->target == DISCARD_ALL;
    case T_DeallocateStmt: /* with ALL, psycopg's after each rollback */
        return bh_discard_all && ((const DeallocateStmt *)stmt)->name == NULL;
    default:
        return false;
    }
}

/* ---- utility statements inside one ---- */

enum where {
    IN_ROW = 1,
    IN_SCHEMA = 2,
    IN_OWN = 4, /* in the tenant's own database */
    IN_SHARED = IN_ROW | IN_SCHEMA,
    EVERYWHERE = IN_SHARED | IN_OWN
};

struct denial {
    NodeTag tag;
    enum where where;
    const char *name;
};

static const struct denial denials[] = {
    /* they outlive the transaction or reach other sessions of the database */
    {T_DiscardStmt, IN_SHARED, "DISCARD"},
    {T_PrepareStmt, IN_SHARED, "PREPARE"},
    {T_ExecuteStmt, IN_SHARED, "EXECUTE"},
    {T_DeallocateStmt, IN_SHARED, "DEALLOCATE"},
    {T_ListenStmt, IN_SHARED, "LISTEN"},
    {T_UnlistenStmt, IN_SHARED, "UNLISTEN"},
    {T_NotifyStmt, IN_SHARED, "NOTIFY"},
    {T_LockStmt, IN_SHARED, "LOCK TABLE"},
    {T_AlterDefaultPrivilegesStmt, IN_SHARED, "ALTER DEFAULT PRIVILEGES"},
    {T_DropOwnedStmt, IN_SHARED, "DROP OWNED"},
    {T_ReassignOwnedStmt, IN_SHARED, "REASSIGN OWNED"},
    {T_CreateExtensionStmt, IN_SHARED, "CREATE EXTENSION"},
    /* they tell of other tenants' rows, or take them away */
    {T_ExplainStmt, IN_ROW, "EXPLAIN"},
    {T_TruncateStmt, IN_ROW, "TRUNCATE"},
    {T_VacuumStmt, IN_ROW, "VACUUM or ANALYZE"},
    {T_ReindexStmt, IN_ROW, "REINDEX"},
    /* they reach beyond the database, or change who one is */
    {T_LoadStmt, EVERYWHERE, "LOAD"},
    {T_CreateRoleStmt, EVERYWHERE, "CREATE ROLE"},
    {T_AlterRoleStmt, EVERYWHERE, "ALTER ROLE"},
    {T_AlterRoleSetStmt, EVERYWHERE, "ALTER ROLE"},
    {T_DropRoleStmt, EVERYWHERE, "DROP ROLE"},
    {T_GrantRoleStmt, EVERYWHERE, "GRANT of a role"},
    {T_AlterDatabaseStmt, EVERYWHERE, "ALTER DATABASE"},
    {T_AlterDatabaseSetStmt, EVERYWHERE, "ALTER DATABASE"},
    {T_AlterDatabaseRefreshCollStmt, EVERYWHERE, "ALTER DATABASE"},
    {T_CreatedbStmt, EVERYWHERE, "CREATE DATABASE"},
    {T_DropdbStmt, EVERYWHERE, "DROP DATABASE"},
    {T_AlterSystemStmt, EVERYWHERE, "ALTER SYSTEM"},
};

static enum where
here(void)
{
    switch (bh_context_mode()) {
    case BH_MODE_ROW:
        return IN_ROW;
    case BH_MODE_SCHEMA:
        return IN_SCHEMA;
    case BH_MODE_DATABASE:
    case BH_MODE_INSTANCE:
        return IN_OWN;
    case BH_MODE_NONE:
        break;
    }
    return EVERYWHERE;
}

static const char *
listed_denial(const Node *stmt, enum where where)
{
    for (size_t i = 0; i < lengthof(denials); i++)
        if (nodeTag(stmt) == denials[i].tag && (denials[i].where & where) != 0)
            return denials[i].name;
    /* Many tenants share the role of mode row: what it makes would be everybody's. */
    if ((where & IN_ROW) != 0 && GetCommandLogLevel((Node *)stmt) == LOGSTMT_DDL)
        return "a statement that changes the schema";
    return NULL;
}

/* The owner of a database may rename it, give it away or let others in. */
static const char *
database_denied(const Node *stmt)
{
    if ((IsA(stmt, RenameStmt) && ((const RenameStmt *)stmt)->renameType == OBJECT_DATABASE) ||
        (IsA(stmt, AlterOwnerStmt) &&
            ((const AlterOwnerStmt *)stmt)->objectType == OBJECT_DATABASE))
        return "ALTER DATABASE";
    if (IsA(stmt, GrantStmt) && ((const GrantStmt *)stmt)->objtype == OBJECT_DATABASE)
        return "GRANT or REVOKE on a database";
    return NULL;
}

/* CREATE on a schema is not asked for where PostgreSQL runs the script. */
static bool
into_our_schema(const CreateExtensionStmt *stmt)
{
    Oid ours = get_namespace_oid("bulkhead", true);
    List *path = fetch_search_path(false);
    Oid schema = path == NIL ? InvalidOid : linitial_oid(path);
    ListCell *cell;

    list_free(path);
    foreach (cell, stmt->options) {
        DefElem *option = lfirst_node(DefElem, cell);

        if (strcmp(option->defname, "schema") == 0)
            schema = get_namespace_oid(defGetString(option), true);
    }
    return OidIsValid(ours) && schema == ours;
}

/* PostgreSQL runs the scripts of trusted extensions as superuser, for whoever may create in the
 * database. */
static const char *
extension_denied(const Node *stmt)
{
    const char *name = NULL;

    if (IsA(stmt, CreateExtensionStmt))
        name = ((const CreateExtensionStmt *)stmt)->extname;
    else if (IsA(stmt, AlterExtensionStmt))
        name = ((const AlterExtensionStmt *)stmt)->extname;
    else if (IsA(stmt, AlterExtensionContentsStmt))
        name = ((const AlterExtensionContentsStmt *)stmt)->extname;
    if (IsA(stmt, CreateExtensionStmt) && into_our_schema((const CreateExtensionStmt *)stmt))
        return "an extension in the schema bulkhead";
    if (name == NULL || bh_settings_extension(name))
        return NULL;
    return "an extension that bulkhead.extensions does not name";
}

static const char *
set_denied(const VariableSetStmt *stmt)
{
    if (stmt->kind == VAR_RESET_ALL)
        return "RESET ALL";
    if (stmt->name == NULL)
        return "SET"; /* no statement of PostgreSQL 15 has this form */
    if (pg_strcasecmp(stmt->name, "role") == 0)
        return "SET ROLE";
    if (pg_strcasecmp(stmt->name, "session_authorization") == 0)
        return "SET SESSION AUTHORIZATION";
    if (stmt->kind == VAR_SET_MULTI)
        return strcmp(stmt->name, "SESSION CHARACTERISTICS") == 0 ? stmt->name : NULL;
    if (stmt->kind == VAR_RESET)
        return "RESET";
    return stmt->is_local ? NULL : "SET without LOCAL";
}

/* What outlives a transaction in a session that many tenants use in turn. */
static const char *
shared_denied(const Node *stmt)
{
    if (IsA(stmt, VariableSetStmt))
        return set_denied((const VariableSetStmt *)stmt);
    if (IsA(stmt, DeclareCursorStmt) &&
        (((const DeclareCursorStmt *)stmt)->options & CURSOR_OPT_HOLD) != 0)
        return "DECLARE WITH HOLD";
    return NULL;
}

static const char *
denied_bound(const Node *stmt)
{
    enum where where = here();
    const char *what = listed_denial(stmt, where);

    if (what == NULL && where != IN_OWN)
        what = shared_denied(stmt);
    if (what == NULL)
        what = database_denied(stmt);
    if (what == NULL)
        what = extension_denied(stmt);
    if (what != NULL)
        return what;
    if (IsA(stmt, TransactionStmt) && !transaction_allowed((const TransactionStmt *)stmt))
        return "PREPARE TRANSACTION";
    if (IsA(stmt, CopyStmt) && ((const CopyStmt *)stmt)->filename != NULL)
        return "COPY with a file or program of the server";
    return NULL;
}

/* Functions that call themselves parallel safe run statements in workers, where nothing is bound.
 */
static void
check_worker(const Node *stmt)
{
    const char *what = NULL;

    if (IsParallelWorker() && bh_context_mode() != BH_MODE_NONE)
        what = denied_bound(stmt);
    if (what != NULL)
        bh_raise_statement(what);
}

/* It gives back only: what was refused for holding too much must be able to. */
static bool
gives_back(const Node *stmt)
{
    const TransactionStmt *transaction = (const TransactionStmt *)stmt;

    return IsA(stmt, TransactionStmt) && (transaction->kind == TRANS_STMT_ROLLBACK ||
                                             transaction->kind == TRANS_STMT_ROLLBACK_TO ||
                                             transaction->kind == TRANS_STMT_RELEASE);
}

/* However the statement spelled it: the session has a temporary schema now, and an error takes it
 * back. */
static void
check_no_temporary(void)
{
    Oid schema;
    Oid toast_schema;

    GetTempNamespaceState(&schema, &toast_schema);
    if (OidIsValid(schema))
        bh_raise_statement("a temporary object");
}

static void
run_utility(PlannedStmt *pstmt, const char *text, bool read_only_tree,
    ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env, DestReceiver *dest,
    QueryCompletion *qc)
{
    if (next_utility)
        next_utility(pstmt, text, read_only_tree, context, params, env, dest, qc);
    else
        standard_ProcessUtility(pstmt, text, read_only_tree, context, params, env, dest, qc);
}

/*
 * May the statement run before a tenant's own login is bound?  What only begins,
 * ends or describes the transaction may; a savepoint may not, because what binds
 * after it would be undone with it.
 */
static bool
runs_unbound(const Node *stmt)
{
    const TransactionStmt *transaction = (const TransactionStmt *)stmt;

    if (IsAbortedTransactionBlockState())
        return true;
    return utility_allowed_unbound(stmt) &&
           !(IsA(stmt, TransactionStmt) && transaction->kind == TRANS_STMT_SAVEPOINT);
}

static void
check_bound(const Node *stmt)
{
    const char *what = denied_bound(stmt);

    if (what != NULL)
        bh_raise_statement(what);
    /* COMMIT of an aborted transaction is a rollback too, and nothing may be read there. */
    if (!gives_back(stmt) && !IsAbortedTransactionBlockState())
        bh_context_statement();
}

/*
 * A procedure that commits would go on without its tenant: keep it from
 * committing at all.  Where the login is the tenant's the next statement binds it.
 */
static bool
must_not_commit(const Node *stmt)
{
    return (IsA(stmt, CallStmt) || IsA(stmt, DoStmt)) && !(bh_context_login() && here() == IN_OWN);
}

/* SET my.name: a name that the server may not have had before. */
static bool
sets_own_name(const Node *stmt)
{
    const char *name = IsA(stmt, VariableSetStmt) ? ((const VariableSetStmt *)stmt)->name : NULL;

    return name != NULL && strchr(name, '.') != NULL;
}

static void
check_after(bool named)
{
    if (here() != IN_OWN)
        check_no_temporary();
    bh_limits_check();
    bh_sets_check();
    if (named)
        bh_sets_named();
}

static void
guard_utility(PlannedStmt *pstmt, const char *text, bool read_only_tree,
    ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env, DestReceiver *dest,
    QueryCompletion *qc)
{
    Node *stmt = pstmt->utilityStmt;
    bool named = sets_own_name(stmt);
    bool bound;

    bh_log_hide_activity();
    if (!runs_unbound(stmt))
        bh_login_bind();
    bound = bh_context_bound();
    check_worker(stmt);
    if (!bound && changes_nothing(stmt) && !IsAbortedTransactionBlockState() && denied_by_default())
        return;
    if (!bound) {
        /* In this order: in an aborted transaction nothing may be looked up. */
        if (!utility_allowed_unbound(stmt) && denied_by_default())
            bh_raise_unbound();
        bh_enter_expect(NULL); /* what a utility statement runs is no statement of the client */
    }
    if (bound) {
        check_bound(stmt);
        if (must_not_commit(stmt))
            context = PROCESS_UTILITY_QUERY;
    }
    run_utility(pstmt, text, read_only_tree, context, params, env, dest, qc);
    if (bound && bh_context_bound())
        check_after(named);
}

/* ---- queries ---- */

static PlannedStmt *
run_planner(Query *query, const char *text, int options, ParamListInfo params)
{
    if (next_planner)
        return next_planner(query, text, options, params);
    return standard_planner(query, text, options, params);
}

/*
 * A plan tells by its estimates which values others have.  The setting may come with the
 * connection, or back by RESET, past its check: PostgreSQL prints after it has planned.
 */
static void
hide_plan(void)
{
    if (bh_context_mode() == BH_MODE_ROW)
        Debug_print_plan = false;
}

/* Planning calls functions on constants, so a query is judged before it is planned. */
static PlannedStmt *
guard_planner(Query *query, const char *text, int options, ParamListInfo params)
{
    PlannedStmt *plan = NULL;

    bh_log_hide_activity();
    bh_login_bind();
    if (!bh_context_bound() && !IsParallelWorker() && !bh_literal_token &&
        bh_constant_literal_token(query))
        bh_raise_refused("it is written into the statement, where logs can see it",
            "Bind it as a parameter: SELECT bulkhead.enter($1).");
    if (!denied_by_default()) {
        plan = run_planner(query, text, options, params);
        hide_plan();
        return plan;
    }
    plan = bh_constant_plan_enter(query);
    if (plan != NULL)
        return plan;
    if (!bh_constant_query(query))
        bh_raise_unbound();
    constant_depth++;
    PG_TRY();
    {
        plan = run_planner(query, text, options, params);
    }
    PG_FINALLY();
    {
        constant_depth--;
    }
    PG_END_TRY();
    return plan;
}

static void
run_executor_start(QueryDesc *query, int flags)
{
    if (next_executor_start)
        next_executor_start(query, flags);
    else
        standard_ExecutorStart(query, flags);
}

/*
 * Is the query that starts a statement of the client?  Of a pool role without
 * tenant every query is: it can call nothing that runs another.  For others,
 * a portal of the protocol has no name and no running query yet.
 */
static bool
from_client(bool pool)
{
    return pool ||
           (ActivePortal != NULL && ActivePortal->name[0] == '\0' &&
               ActivePortal->strategy == PORTAL_ONE_SELECT && ActivePortal->queryDesc == NULL);
}

static void
guard_executor_start(QueryDesc *query, int flags)
{
    bool pool;

    bh_log_hide_activity();
    bh_login_bind();
    if (IsParallelWorker() && (here() & IN_SHARED) != 0 && bh_context_mode() != BH_MODE_NONE)
        bh_memory_limit();
    if (bh_context_bound()) {
        bh_context_statement();
        run_executor_start(query, flags);
        return;
    }
    pool = denied_by_default();
    if (pool && !bh_constant_plan(query->plannedstmt))
        bh_raise_unbound();
    if (!IsParallelWorker() && from_client(pool))
        bh_enter_expect(bh_constant_enter(query->plannedstmt));
    if (!pool) {
        run_executor_start(query, flags);
        return;
    }
    constant_depth++;
    PG_TRY();
    {
        run_executor_start(query, flags);
    }
    PG_FINALLY();
    {
        constant_depth--;
    }
    PG_END_TRY();
}

static void
guard_executor_run(QueryDesc *query, ScanDirection direction, uint64 count BH_ONCE_PARAM)
{
    bool bound = bh_context_bound();

    bh_log_hide_activity();
    /* A portal goes on: without this one could be read in small parts beyond every limit. */
    if (bound && !BH_ONCE)
        bh_context_statement();
    if (next_executor_run)
        next_executor_run(query, direction, count BH_ONCE_ARG);
    else
        standard_ExecutorRun(query, direction, count BH_ONCE_ARG);
    if (bound)
        bh_sets_check();
}

/*
 * Function calls that no query above shows: the fast path of the protocol,
 * CHECK expressions of domains, expressions that a procedural language keeps.
 */
static void
guard_function(Oid funcid)
{
    bh_login_bind();
    if (bh_context_bound()) {
        bh_context_function(funcid);
        return;
    }
    if (denied_by_default() && (constant_depth == 0 || !bh_constant_function(funcid)))
        bh_raise_unbound();
}

static void
guard_object_access(ObjectAccessType access, Oid classid, Oid objectid, int subid, void *arg)
{
    if (next_object_access)
        next_object_access(access, classid, objectid, subid, arg);
    if (access == OAT_FUNCTION_EXECUTE && classid == ProcedureRelationId)
        guard_function(objectid);
    if (access == OAT_DROP)
        bh_tenant_table_dropping(classid, objectid);
}

void
bh_guard_install(void)
{
    next_planner = planner_hook;
    planner_hook = guard_planner;
    next_executor_start = ExecutorStart_hook;
    ExecutorStart_hook = guard_executor_start;
    next_executor_run = ExecutorRun_hook;
    ExecutorRun_hook = guard_executor_run;
    next_utility = ProcessUtility_hook;
    ProcessUtility_hook = guard_utility;
    next_object_access = object_access_hook;
    object_access_hook = guard_object_access;
}
