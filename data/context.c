#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "commands/sequence.h"
#include "common/pg_prng.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "core/token.h"
#include "data/age.h"
#include "data/compat.h"
#include "data/context.h"
#include "data/dirty.h"
#include "data/enter.h"
#include "data/limit.h"
#include "data/lock.h"
#include "data/memory.h"
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
    bool login; /* by the tenant's own login */
    enum bh_mode mode;
    int32 no;
    uint32 epoch;
    int guc_nest;   /* 0: settings are as before the binding again, or were never ours */
    Oid outer_user; /* who acts when the transaction is over; invalid: the user was not changed */
    int subtransactions; /* begun so far */
    uint64 generation;   /* of the tenant table when it was last looked at */
    char subject[BH_TOKEN_SUB_MAX + 1];
};

static struct bound bound;

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

enum bh_mode
bh_context_mode(void)
{
    if (IsParallelWorker())
        return bh_slot_mode(BH_BACKEND_LEADER);
    return bound.active ? bound.mode : BH_MODE_NONE;
}

bool
bh_context_login(void)
{
    return bound.login;
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

/* ---- binding ---- */

static void
set(const char *name, const char *value)
{
    set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

void
bh_context_check_state(const struct bh_tenant_row *row)
{
    if (row->state == BH_TENANT_MOVING)
        ereport(ERROR, (errcode(BH_TN_MOVED), errmsg("tenant has moved"),
                           errhint("Retry once through the edge.")));
    if (row->state != BH_TENANT_ACTIVE)
        ereport(ERROR, (errcode(BH_TN_NOT_ACTIVE),
                           errmsg("tenant is not active: %s", bh_tenant_state_name(row->state))));
}

/* By name, as it is now: a role that can do more than one tenant may is refused. */
Oid
bh_context_role(const NameData *name)
{
    HeapTuple tuple = SearchSysCache1(AUTHNAME, NameGetDatum(name));
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
    if (mighty)
        bh_raise_enter("its role has rights beyond one tenant");
    return oid;
}

/* The statement that binds a login has begun: PostgreSQL armed its timer by the old setting. */
static void
restart_statement_timeout(void)
{
    if (get_timeout_active(STATEMENT_TIMEOUT))
        disable_timeout(STATEMENT_TIMEOUT, false);
    if (StatementTimeout > 0)
        enable_timeout_after(STATEMENT_TIMEOUT, StatementTimeout);
}

/* User and settings are the tenant's until the transaction ends. */
static void
take_over(const struct bh_binding *by)
{
    bool own = bh_mode_own(by->row->mode);
    int nest = NewGUCNestLevel();

    if (bh_pooler == BH_POOLER_NONE && !by->login)
        bh_pooler_restore();
    set("search_path", by->row->search_path);
    set("application_name", by->row->id);
    bound.guc_nest = nest;
    bound.outer_user = by->login ? by->role : GetUserId();
    if (by->anonymous)
        /* Not GUC_ACTION_SAVE, which 16 refuses for it; bound.guc_nest undoes either. */
        set_config_option("transaction_read_only", "on", PGC_USERSET, PGC_S_SESSION,
            GUC_ACTION_LOCAL, true, 0, false);
    bh_limits_apply(&by->row->limits, own ? BH_LIMITS_CLAMP : BH_LIMITS_REFUSE);
    if (!own) {
        bh_sets_begin(nest);
        bh_memory_limit();
    }
    bh_age_begin();
    SetUserIdAndSecContext(by->role, SECURITY_LOCAL_USERID_CHANGE);
}

void
bh_context_bind(const struct bh_binding *by)
{
    bound = (struct bound){.active = true,
        .login = by->login,
        .mode = by->row->mode,
        .no = by->row->no,
        .epoch = by->row->epoch,
        .generation = by->generation,
        .anonymous = by->anonymous};
    bh_slot_publish_mode(by->row->mode);
    memcpy(bound.subject, by->subject.data, Min(by->subject.len, BH_TOKEN_SUB_MAX));
    if (by->login && bh_mode_own(by->row->mode))
        bh_limits_apply(&by->row->limits, BH_LIMITS_SESSION);
    else
        take_over(by);
    bh_meter_begin(by->row->no);
    if (by->login)
        restart_statement_timeout();
}

#pragma GCC visibility push(default)
PG_FUNCTION_INFO_V1(bh_tenant_no);
PG_FUNCTION_INFO_V1(bh_tenant_id);
#pragma GCC visibility pop

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
    if (row.epoch != bound.epoch) {
        bh_context_check_state(&row);
        bh_raise_refused("it was revoked", "Begin again, with the token of the current request.");
    }
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
    /* Each one that is open and has written holds a lock in the table that all tenants share. */
    if (GetCurrentTransactionNestLevel() - 1 > bh_limits_count(BH_LIMIT_MAX_NESTED_SUBTRANSACTIONS))
        bh_raise_limit("max_nested_subtransactions");
    /* Inside a parallel query no snapshot can be taken; its statement was checked when it began. */
    if (!IsInParallelMode() &&
        (bound.generation != bh_tenant_table_generation() || RecoveryInProgress()))
        check_epoch();
    /* RESET and set_config(NULL) get past the setting's own check in PostgreSQL 15. */
    if (bound.anonymous)
        XactReadOnly = true;
}

/* Functions that write, or that others hear of, and that a read-only transaction may call. */
static bool
writes(Oid funcid)
{
    static const Oid writers[] = {F_NEXTVAL, F_SETVAL_REGCLASS_INT8, F_SETVAL_REGCLASS_INT8_BOOL,
        F_LO_CREATE, F_LO_CREAT, F_LO_UNLINK, F_LOWRITE, F_LO_FROM_BYTEA, F_LO_PUT, F_LO_TRUNCATE,
        F_LO_TRUNCATE64, F_PG_NOTIFY};

    for (size_t i = 0; i < lengthof(writers); i++)
        if (writers[i] == funcid)
            return true;
    return false;
}

void
bh_context_function(Oid funcid)
{
    /* No portal runs: the fast path of the protocol, a statement that no other hook shows. */
    if (ActivePortal == NULL) {
        bh_context_statement();
        bh_meter_fast_path();
    }
    if (funcid == F_SET_CONFIG)
        bh_sets_called();
    if (bound.anonymous && writes(funcid))
        bh_raise_statement("a function that writes, in the scope \"anonymous\",");
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

/*
 * In a shared database every SET since the binding is undone, not only LOCAL
 * ones.  In its own what the tenant set for the session stays.
 */
static void
undo_settings(void)
{
    int nest = bound.guc_nest;

    bound.guc_nest = 0;
    bh_sets_end();
    bh_limits_end();
    if (nest != 0)
        AtEOXact_GUC(bh_mode_own(bound.mode), nest);
}

static void
unbind(void)
{
    bh_slot_clear();
    bh_age_end();
    bh_limits_end();
    bh_sets_end();
    bh_lock_end();
    if (bound.active && !bh_mode_own(bound.mode))
        forget_session_state();
    if (bound.active && bh_mode_own(bound.mode))
        bh_dirty_note();
    memset(&bound, 0, offsetof(struct bound, subject) + 1);
    bh_enter_expect(NULL);
}

static void
xact_ends(XactEvent event, void *arg pg_attribute_unused())
{
    switch (event) {
    case XACT_EVENT_PRE_COMMIT:
        /* Deferred triggers have run, as the tenant. */
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
        if (OidIsValid(bound.outer_user))
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
