#include "postgres.h"

#include <time.h>

#include "access/detoast.h"
#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "commands/sequence.h"
#include "common/pg_prng.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "core/token.h"
#include "data/age.h"
#include "data/compat.h"
#include "data/context.h"
#include "data/keys.h"
#include "data/limit.h"
#include "data/lock.h"
#include "data/meter.h"
#include "data/pooler.h"
#include "data/raise.h"
#include "data/sets.h"
#include "data/settings.h"
#include "data/slot.h"
#include "data/tenant_table.h"

struct bound {
    bool active;
    bool anonymous;
    int32 no;
    uint32 epoch;
    int guc_nest; /* 0: settings are as before enter() again */
    Oid outer_user;
    int subtransactions; /* begun so far */
    uint64 generation;   /* of the tenant table when it was last looked at */
    char subject[BH_TOKEN_SUB_MAX + 1];
};

static struct bound bound;
static const FuncExpr *expected_call;

bool
bh_context_bound(void)
{
    return bound.active;
}

int32
bh_context_tenant(void)
{
    return bound.active ? bound.no : 0;
}

const char *
bh_context_subject(void)
{
    return bound.subject;
}

bool
bh_context_anonymous(void)
{
    return bound.anonymous;
}

void
bh_context_expect(const FuncExpr *call)
{
    expected_call = call;
}

/* ---- enter() ---- */

static void
set(const char *name, const char *value)
{
    set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* Is this the one call that may bind?  TN006 otherwise. */
static void
check_place(const FunctionCallInfo fcinfo)
{
    Oid user;
    int context;
    Oid temp_schema;
    Oid temp_toast_schema;

    if (bound.active)
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
    GetTempNamespaceState(&temp_schema, &temp_toast_schema);
    if (OidIsValid(temp_schema))
        bh_raise_enter("the session has temporary objects");
}

/* Details of the core hold fixed texts only, nothing of the token. */
static void
parse(const text *token, struct bh_token_parts *ret_parts)
{
    struct bh_str text = {VARDATA_ANY(token), bh_compat_length(token)};
    struct bh_error err = {0};

    if (bh_token_parse(text, ret_parts, &err) != BH_OK)
        bh_raise_refused(
            err.detail, "Bind the value of the request's X-Bulkhead-Token header unchanged.");
}

/* MAC, audience and times. */
static void
believe(const struct bh_token_parts *parts)
{
    struct bh_error err = {0};
    int64_t now_s = (int64_t)time(NULL);
    struct bh_mac *mac = bh_keys_find(parts->kid, now_s);

    if (bh_token_check(
            parts, mac, bh_str_of(bh_server), bh_str_of(bh_keys_database()), now_s, &err) != BH_OK)
        bh_raise_refused(err.detail, "Use the token of the current request, for this database.");
}

/* State before epoch: who asks late shall hear that the tenant has moved. */
static void
check_tenant(const struct bh_tenant_row *row, uint32 epoch)
{
    if (row->state == BH_TENANT_MOVING)
        ereport(ERROR, (errcode(BH_TN_MOVED), errmsg("tenant has moved"),
                           errhint("Retry once through the edge.")));
    if (row->state != BH_TENANT_ACTIVE)
        ereport(ERROR, (errcode(BH_TN_NOT_ACTIVE),
                           errmsg("tenant is not active: %s", bh_tenant_state_name(row->state))));
    if (row->epoch != epoch)
        bh_raise_refused("it was revoked", "Use the token of the current request.");
}

/* The tenant's role by name, as it is now: a role that can do more than one tenant may is refused.
 */
static Oid
tenant_role(const struct bh_tenant_row *row)
{
    HeapTuple tuple = SearchSysCache1(AUTHNAME, NameGetDatum(&row->role));
    Form_pg_authid role;
    Oid oid;
    bool mighty;

    if (!HeapTupleIsValid(tuple))
        ereport(ERROR, (errcode(BH_TN_NOT_ACTIVE), errmsg("tenant is not active: it has no role"),
                           errhint("Its onboarding has not finished.")));
    role = (Form_pg_authid)GETSTRUCT(tuple);
    oid = role->oid;
    mighty = role->rolsuper || role->rolbypassrls || role->rolreplication || role->rolcreaterole ||
             role->rolcreatedb;
    ReleaseSysCache(tuple);
    if (mighty || oid == GetSessionUserId())
        bh_raise_enter("its role has rights beyond one tenant");
    return oid;
}

static void
bind(const struct bh_token *claims, const struct bh_tenant_row *row, Oid role, uint64 generation)
{
    Oid user = GetUserId();
    int nest = NewGUCNestLevel();

    if (bh_pooler == BH_POOLER_NONE)
        bh_pooler_restore();
    set("search_path", row->search_path);
    set("application_name", row->id);
    bound = (struct bound){.active = true,
        .no = row->no,
        .epoch = row->epoch,
        .guc_nest = nest,
        .outer_user = user,
        .generation = generation,
        .anonymous = bh_token_has_scope(claims, "anonymous")};
    memcpy(bound.subject, claims->sub.data, claims->sub.len);
    if (bound.anonymous)
        set("transaction_read_only", "on");
    bh_limits_apply(&row->limits);
    bh_sets_begin(nest);
    bh_age_begin();
    bh_meter_begin(row->no);
    SetUserIdAndSecContext(role, SECURITY_LOCAL_USERID_CHANGE);
}

#pragma GCC visibility push(default)
PG_FUNCTION_INFO_V1(bh_enter);
PG_FUNCTION_INFO_V1(bh_tenant_no);
PG_FUNCTION_INFO_V1(bh_tenant_id);
#pragma GCC visibility pop

Datum
bh_enter(PG_FUNCTION_ARGS)
{
    struct bh_token_parts parts;
    struct bh_tenant_row row;
    const struct bh_token *claims = &parts.claims;
    uint64 generation;
    Oid role;

    check_place(fcinfo);
    if (PG_ARGISNULL(0))
        bh_raise_refused("it is NULL", NULL);
    if (toast_raw_datum_size(PG_GETARG_DATUM(0)) > BH_TOKEN_MAX + VARHDRSZ)
        bh_raise_refused("it is too long", NULL);
    parse(PG_GETARG_TEXT_PP(0), &parts);
    believe(&parts);
    bh_slot_publish(claims->no, claims->epoch, claims->tenant);
    bh_slot_publish_subject(claims->sub);
    if (!bh_tenant_table_get(claims->no, &row, &generation))
        bh_raise_refused("its tenant is not in this database", NULL);
    if (!bh_str_is(claims->tenant, row.id))
        bh_raise_refused("its tenant's number and id do not belong together", NULL);
    check_tenant(&row, claims->epoch);
    role = tenant_role(&row);
    bind(claims, &row, role, generation);
    PG_RETURN_VOID();
}

/* ---- tenant_no(), tenant_id() ---- */

/* The bound tenant, 0 where there is none; TN001 for an unbound pool role. */
static int32
bound_tenant(const char **ret_id)
{
    int32 no = 0;

    if (IsParallelWorker())
        no = bh_slot_read(BH_BACKEND_LEADER, ret_id);
    else if (bound.active)
        no = bh_slot_read(BH_BACKEND_SELF, ret_id);
    if (no == 0 && bh_settings_pool_session())
        bh_raise_unbound();
    return no;
}

Datum
bh_tenant_no(PG_FUNCTION_ARGS)
{
    const char *id;
    int32 no = bound_tenant(&id);

    if (no == 0)
        PG_RETURN_NULL();
    PG_RETURN_INT32(no);
}

Datum
bh_tenant_id(PG_FUNCTION_ARGS)
{
    const char *id;

    if (bound_tenant(&id) == 0)
        PG_RETURN_NULL();
    PG_RETURN_TEXT_P(cstring_to_text(id));
}

/* ---- each statement ---- */

/* Somebody changed tenants since we looked: was it ours? */
static void
check_epoch(void)
{
    struct bh_tenant_row row;
    uint64 generation;

    if (!bh_tenant_table_get(bound.no, &row, &generation))
        bh_raise_refused("its tenant is not in this database", NULL);
    if (row.epoch != bound.epoch)
        check_tenant(&row, bound.epoch);
    bound.generation = generation;
}

void
bh_context_statement(void)
{
    bh_age_check();
    bh_limits_check();
    bh_sets_check();
    if (bound.subtransactions > bh_limits_count(BH_LIMIT_MAX_SUBTRANSACTIONS))
        bh_raise_limit("max_subtransactions");
    /* Inside a parallel query no snapshot can be taken; its statement was checked when it began. */
    if (!IsInParallelMode() &&
        (bound.generation != bh_tenant_table_generation() || RecoveryInProgress()))
        check_epoch();
    /* RESET and set_config(NULL) get past the setting's own check in PostgreSQL 15. */
    if (bound.anonymous)
        XactReadOnly = true;
}

void
bh_context_function(Oid funcid)
{
    bool sequence = funcid == F_NEXTVAL || funcid == F_SETVAL_REGCLASS_INT8 ||
                    funcid == F_SETVAL_REGCLASS_INT8_BOOL;

    /* No portal runs: the fast path of the protocol, a statement that no other hook shows. */
    if (ActivePortal == NULL) {
        bh_context_statement();
        bh_meter_fast_path();
    }
    if (funcid == F_SET_CONFIG)
        bh_sets_called();
    if (sequence && bound.anonymous)
        bh_raise_statement("changing a sequence in the scope \"anonymous\"");
}

/* ---- the end ---- */

/*
 * What a tenant leaves in backend memory that no transaction undoes.  random()
 * is seeded anew each time: setseed() and SET seed choose what the next tenant
 * would draw, and some draws are enough to foretell the others.
 */
static void
forget_session_state(void)
{
    ResetSequenceCaches(); /* lastval() and currval() */
    DirectFunctionCall1(setseed, Float8GetDatum(pg_prng_double(&pg_global_prng_state)));
}

static void
undo_settings(void)
{
    int nest = bound.guc_nest;

    bound.guc_nest = 0;
    bh_sets_end();
    bh_limits_end();
    if (nest != 0)
        AtEOXact_GUC(false, nest);
}

static void
unbind(void)
{
    bh_slot_clear();
    bh_age_end();
    bh_limits_end();
    bh_sets_end();
    bh_lock_end();
    if (bound.active)
        forget_session_state();
    memset(&bound, 0, sizeof(bound));
    expected_call = NULL;
}

static void
xact_ends(XactEvent event, void *arg pg_attribute_unused())
{
    switch (event) {
    case XACT_EVENT_PRE_COMMIT:
        /* Deferred triggers have run, as the tenant. Every SET since enter() is undone, not only
         * LOCAL ones. */
        if (bound.active) {
            bh_sets_check();
            undo_settings();
        }
        break;
    case XACT_EVENT_PRE_PREPARE:
        if (bound.active)
            bh_raise_statement("PREPARE TRANSACTION");
        break;
    case XACT_EVENT_COMMIT:
        /* A commit does not restore the user by itself. */
        if (bound.active)
            SetUserIdAndSecContext(bound.outer_user, 0);
        unbind();
        break;
    case XACT_EVENT_ABORT:
        /* An abort has restored user and settings. */
        unbind();
        break;
    case XACT_EVENT_PREPARE:
    case XACT_EVENT_PARALLEL_PRE_COMMIT:
    case XACT_EVENT_PARALLEL_COMMIT:
    case XACT_EVENT_PARALLEL_ABORT:
        break;
    }
}

/* An error here would break the subtransaction that begins: the next statement says it. */
static void
subxact_ends(SubXactEvent event, SubTransactionId id pg_attribute_unused(),
    SubTransactionId parent pg_attribute_unused(), void *arg pg_attribute_unused())
{
    if (event == SUBXACT_EVENT_START_SUB && bound.subtransactions < INT_MAX)
        bound.subtransactions++;
}

void
bh_context_register(void)
{
    RegisterSubXactCallback(subxact_ends, NULL);
    RegisterXactCallback(xact_ends, NULL);
}
