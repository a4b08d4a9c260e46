#include "postgres.h"

#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "data/constant.h"
#include "data/pooler.h"

/* Types whose input and output look nothing up. */
static const Oid plain_types[] = {BOOLOID, INT2OID, INT4OID, INT8OID, FLOAT4OID, FLOAT8OID,
    NUMERICOID, TEXTOID, VARCHAROID, BPCHAROID, NAMEOID, UNKNOWNOID, DATEOID, TIMEOID, TIMETZOID,
    TIMESTAMPOID, TIMESTAMPTZOID, INTERVALOID, UUIDOID, BYTEAOID, JSONOID, JSONBOID, VOIDOID,
    INT4ARRAYOID, TEXTARRAYOID, BOOLARRAYOID, INT8ARRAYOID, NAMEARRAYOID};

/*
 * What drivers and poolers ask a fresh connection, and what tells nobody's data.
 * pg_advisory_unlock_all() belongs to the resets of pools: it ends this session's
 * locks, and a session of a pool role can take none.
 */
static const Oid listed_functions[] = {F_VERSION, F_CURRENT_DATABASE, F_CURRENT_SCHEMA,
    F_CURRENT_SCHEMAS, F_CURRENT_USER, F_SESSION_USER, F_PG_BACKEND_PID, F_PG_IS_IN_RECOVERY, F_NOW,
    F_TRANSACTION_TIMESTAMP, F_STATEMENT_TIMESTAMP, F_CLOCK_TIMESTAMP, F_CURRENT_SETTING_TEXT,
    F_CURRENT_SETTING_TEXT_BOOL, F_PG_CLIENT_ENCODING, F_PG_ADVISORY_UNLOCK_ALL};

/* Our own functions, found by name; forgotten when pg_proc changes. */
struct own {
    bool known;
    Oid enter;
    Oid tenant_no;
    Oid tenant_id;
};

static struct own own;
static uint64 proc_changes;

static void
proc_changed(Datum arg pg_attribute_unused(), int cache pg_attribute_unused(),
    uint32 hash pg_attribute_unused())
{
    own.known = false;
    proc_changes++;
}

void
bh_constant_register(void)
{
    CacheRegisterSyscacheCallback(PROCOID, proc_changed, (Datum)0);
    CacheRegisterSyscacheCallback(NAMESPACEOID, proc_changed, (Datum)0);
}

/* Straight from the catalogue: whoever asks need not have USAGE on the schema. */
static Oid
own_function(Oid schema, const char *name, int nargs)
{
    static const Oid text_arg[] = {TEXTOID};
    oidvector *args = buildoidvector(text_arg, nargs);
    Oid oid = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid, CStringGetDatum(name),
        PointerGetDatum(args), ObjectIdGetDatum(schema));

    pfree(args);
    return oid;
}

static const struct own *
own_functions(void)
{
    Oid schema;
    struct own found = {0};
    uint64 changes = proc_changes;

    if (own.known)
        return &own;
    schema = get_namespace_oid("bulkhead", true);
    if (OidIsValid(schema)) {
        found.enter = own_function(schema, "enter", 1);
        found.tenant_no = own_function(schema, "tenant_no", 0);
        found.tenant_id = own_function(schema, "tenant_id", 0);
    }
    found.known = changes == proc_changes; /* looking up may be what hears of a change */
    own = found;
    return &own;
}

static bool
listed(const Oid *list, size_t count, Oid oid)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == oid)
            return true;
    return false;
}

static bool
plain_type(Oid type)
{
    return listed(plain_types, lengthof(plain_types), type);
}

static bool
is_enter(const Node *node)
{
    return node != NULL && IsA(node, FuncExpr) &&
           ((const FuncExpr *)node)->funcid == own_functions()->enter &&
           OidIsValid(((const FuncExpr *)node)->funcid);
}

static bool
callable_function(Oid funcid)
{
    return listed(listed_functions, lengthof(listed_functions), funcid) ||
           (OidIsValid(funcid) &&
               (funcid == own_functions()->tenant_no || funcid == own_functions()->tenant_id));
}

static bool
immutable_builtin(Oid funcid)
{
    return funcid < FirstGenbkiObjectId && func_volatile(funcid) == PROVOLATILE_IMMUTABLE &&
           !get_func_retset(funcid);
}

bool
bh_constant_function(Oid funcid)
{
    return immutable_builtin(funcid) || callable_function(funcid) || funcid == F_SET_CONFIG ||
           (OidIsValid(funcid) && funcid == own_functions()->enter);
}

/* set_config() with the name of one of PgBouncer's five written out is the same as its SET. */
static bool
sets_pooler_setting(const FuncExpr *call)
{
    const Const *name = (const Const *)linitial(call->args);

    return IsA(name, Const) && !name->constisnull && name->consttype == TEXTOID &&
           bh_pooler_setting(TextDatumGetCString(name->constvalue));
}

static bool
allowed_call(const FuncExpr *call)
{
    if (call->funcretset)
        return false;
    if (call->funcid == F_SET_CONFIG)
        return sets_pooler_setting(call);
    if (call->funcformat == COERCE_EXPLICIT_CAST || call->funcformat == COERCE_IMPLICIT_CAST)
        return immutable_builtin(call->funcid);
    return callable_function(call->funcid);
}

static bool
allowed_operator(Oid opfuncid, Oid opno, bool retset)
{
    return !retset && opno < FirstGenbkiObjectId &&
           immutable_builtin(OidIsValid(opfuncid) ? opfuncid : get_opcode(opno));
}

static bool
allowed_node(const Node *node)
{
    const OpExpr *op = (const OpExpr *)node;
    const ScalarArrayOpExpr *array_op = (const ScalarArrayOpExpr *)node;

    switch ((int)nodeTag(node)) {
    case T_Const:
    case T_SQLValueFunction:
    case T_BoolExpr:
    case T_NullTest:
    case T_BooleanTest:
    case T_CaseExpr:
    case T_CoalesceExpr:
    case T_MinMaxExpr:
    case T_RelabelType:
    case T_CoerceViaIO:
    case T_CollateExpr:
    case T_ArrayExpr:
    case T_NamedArgExpr:
        return true;
    case T_Param:
        return ((const Param *)node)->paramkind == PARAM_EXTERN;
    case T_FuncExpr:
        return allowed_call((const FuncExpr *)node);
    case T_OpExpr:
    case T_DistinctExpr:
    case T_NullIfExpr:
        return allowed_operator(op->opfuncid, op->opno, op->opretset);
    case T_ScalarArrayOpExpr:
        return allowed_operator(array_op->opfuncid, array_op->opno, false);
    default:
        return false;
    }
}

/* True ends the walk: something is not constant. */
static bool
not_constant(Node *node, void *context)
{
    if (node == NULL)
        return false;
    if (IsA(node, List) || IsA(node, TargetEntry) || IsA(node, CaseWhen))
        return expression_tree_walker(node, not_constant, context);
    if (!allowed_node(node) || !plain_type(exprType(node)))
        return true;
    return expression_tree_walker(node, not_constant, context);
}

static bool
constant_targets(List *targets, Node *quals)
{
    if (not_constant(quals, NULL))
        return false;
    if (list_length(targets) == 1 &&
        is_enter((const Node *)linitial_node(TargetEntry, targets)->expr)) {
        const FuncExpr *call = (const FuncExpr *)linitial_node(TargetEntry, targets)->expr;

        return !not_constant((Node *)call->args, NULL);
    }
    return !not_constant((Node *)targets, NULL);
}

static bool
plain_select(const Query *query)
{
    return query->commandType == CMD_SELECT && query->utilityStmt == NULL && !query->hasAggs &&
           !query->hasWindowFuncs && !query->hasTargetSRFs && !query->hasSubLinks &&
           !query->hasModifyingCTE && !query->hasForUpdate && query->cteList == NIL &&
           query->rtable == NIL && query->groupClause == NIL && query->groupingSets == NIL &&
           query->havingQual == NULL && query->windowClause == NIL &&
           query->distinctClause == NIL && query->sortClause == NIL && query->limitOffset == NULL &&
           query->limitCount == NULL && query->rowMarks == NIL && query->setOperations == NULL;
}

bool
bh_constant_query(const Query *query)
{
    if (!plain_select(query) || query->jointree == NULL || query->jointree->fromlist != NIL)
        return false;
    return constant_targets(query->targetList, query->jointree->quals);
}

static const Result *
bare_result(const PlannedStmt *plan)
{
    const Plan *top = plan->planTree;

    if (plan->commandType != CMD_SELECT || plan->utilityStmt != NULL || plan->hasModifyingCTE ||
        plan->subplans != NIL || plan->rowMarks != NIL || plan->relationOids != NIL ||
        top == NULL || !IsA(top, Result) || top->lefttree != NULL || top->righttree != NULL ||
        top->initPlan != NIL || top->qual != NIL)
        return NULL;
    return (const Result *)top;
}

bool
bh_constant_plan(const PlannedStmt *plan)
{
    const Result *result = bare_result(plan);

    return result != NULL && constant_targets(result->plan.targetlist, result->resconstantqual);
}

/* The one call with one bound parameter; named or cast ones are the planner's. */
static const FuncExpr *
bound_enter(const Query *query)
{
    const FuncExpr *call;

    if (!plain_select(query) || query->jointree == NULL || query->jointree->fromlist != NIL ||
        query->jointree->quals != NULL || list_length(query->targetList) != 1)
        return NULL;
    call = (const FuncExpr *)linitial_node(TargetEntry, query->targetList)->expr;
    if (!is_enter((const Node *)call) || !IsA(linitial(call->args), Param) ||
        ((const Param *)linitial(call->args))->paramkind != PARAM_EXTERN)
        return NULL;
    return call;
}

/* So that a cached plan is made anew where the function changes. */
static List *
depends_on(Oid function)
{
    PlanInvalItem *item = makeNode(PlanInvalItem);

    item->cacheId = PROCOID;
    item->hashValue = GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(function));
    return list_make1(item);
}

PlannedStmt *
bh_constant_plan_enter(Query *query)
{
    const FuncExpr *call = bound_enter(query);
    PlannedStmt *plan;
    Result *result;

    if (call == NULL)
        return NULL;
    result = makeNode(Result);
    result->plan.targetlist = query->targetList;
    result->plan.total_cost = cpu_operator_cost;
    result->plan.plan_rows = 1;
    result->plan.plan_width = 4;
    plan = makeNode(PlannedStmt);
    plan->commandType = CMD_SELECT;
    plan->queryId = query->queryId;
    plan->canSetTag = query->canSetTag;
    plan->planTree = &result->plan;
    plan->invalItems = depends_on(call->funcid);
    plan->stmt_location = query->stmt_location;
    plan->stmt_len = query->stmt_len;
    return plan;
}

const FuncExpr *
bh_constant_enter(const PlannedStmt *plan)
{
    const Result *result = bare_result(plan);
    const TargetEntry *target;

    if (result == NULL || list_length(result->plan.targetlist) != 1)
        return NULL;
    target = linitial_node(TargetEntry, result->plan.targetlist);
    return is_enter((const Node *)target->expr) ? (const FuncExpr *)target->expr : NULL;
}

bool
bh_constant_literal_token(const Query *query)
{
    const Node *target;
    Node *arg;

    if (query->commandType != CMD_SELECT || list_length(query->targetList) != 1)
        return false;
    target = (const Node *)linitial_node(TargetEntry, query->targetList)->expr;
    if (!is_enter(target))
        return false;
    arg = linitial(((const FuncExpr *)target)->args);
    if (IsA(arg, NamedArgExpr))
        arg = (Node *)((NamedArgExpr *)arg)->arg;
    while (arg != NULL && IsA(arg, RelabelType))
        arg = (Node *)((RelabelType *)arg)->arg;
    return arg == NULL || !IsA(arg, Param);
}
