#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/walsender.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/syscache.h"

#include "data/compat.h"
#include "data/context.h"
#include "data/login.h"
#include "data/raise.h"
#include "data/settings.h"
#include "data/slot.h"
#include "data/tenant_table.h"

/* Whose login this session's is, as last looked up. */
struct verdict {
    bool known; /* forgotten by role_changed() */
    uint64 generation;
    LocalTransactionId looked_in; /* a standby hears of no generation: there it holds this long */
    int32 no;                     /* 0: nobody's */
};

static struct verdict verdict;
static uint64 role_changes;
static bool started;       /* the session, that is: its first transaction is over */
static Oid role_at_commit; /* of the shared tenant whose session starts */

static void
role_changed(Datum arg pg_attribute_unused(), int cache pg_attribute_unused(),
    uint32 hash pg_attribute_unused())
{
    verdict.known = false;
    role_changes++;
}

/* ---- whose login ---- */

static int32
look_up(void)
{
    Oid login = GetAuthenticatedUserId();
    char *name;

    if (bh_settings_pool_session() || superuser_arg(login))
        return 0;
    name = GetUserNameFromId(login, true);
    return name == NULL ? 0 : bh_tenant_table_login(name);
}

static bool
verdict_holds(void)
{
    if (!verdict.known || verdict.generation != bh_tenant_table_generation())
        return false;
    return !RecoveryInProgress() || verdict.looked_in == BH_TRANSACTION;
}

/* A session that was one tenant's is never another's, nor free. */
static void
end_session(void)
{
    ereport(FATAL, (errcode(BH_TN_NOT_ACTIVE), errmsg("this login is not the tenant's any more"),
                       errhint("Connect again.")));
}

static int32
owner(void)
{
    struct verdict fresh = {.known = true};
    uint64 changes = role_changes;

    if (verdict_holds())
        return verdict.no;
    /* Whatever runs in a parallel query was judged before it began. */
    if (IsInParallelMode() || !IsTransactionState())
        return verdict.no;
    fresh.generation = bh_tenant_table_generation();
    fresh.looked_in = BH_TRANSACTION;
    fresh.no = look_up();
    if (verdict.no != 0 && fresh.no != verdict.no)
        end_session();
    fresh.known = changes == role_changes; /* looking up may be what hears of a change */
    verdict = fresh;
    return verdict.no;
}

/* Sessions of people and programs: no workers, no replication, nothing before a database is chosen.
 */
static bool
is_session(void)
{
    return MyBackendType == B_BACKEND && !am_walsender && OidIsValid(MyDatabaseId) &&
           IsUnderPostmaster;
}

/* ---- binding ---- */

/*
 * The row as it is once the slot says that we act by it: who raises the epoch
 * after that waits for us, and what was raised before we see.
 */
static void
publish(int32 no, struct bh_tenant_row *row, uint64 *ret_generation)
{
    uint32 epoch;

    do {
        if (!bh_tenant_table_get(no, row, ret_generation))
            end_session();
        epoch = row->epoch;
        bh_slot_publish(no, epoch, bh_str_of(row->id));
        if (!bh_tenant_table_get(no, row, ret_generation))
            end_session();
    } while (row->epoch != epoch);
}

/* The switch of the user must last until the transaction ends. */
static void
check_place(void)
{
    Oid user;
    int context;

    GetUserIdAndSecContext(&user, &context);
    if (GetCurrentTransactionNestLevel() != 1 || context != 0)
        bh_raise_enter("the transaction of its login has gone too far");
}

static void
bind_to(int32 no)
{
    struct bh_tenant_row row;
    struct bh_binding by = {.row = &row, .login = true};
    NameData login;

    namestrcpy(&login, GetUserNameFromId(GetAuthenticatedUserId(), false));
    publish(no, &row, &by.generation);
    bh_slot_publish_subject(bh_str_of(NameStr(login)));
    bh_context_check_state(&row);
    (void)bh_context_role(&login);
    by.role = bh_context_role(&row.role);
    by.subject = bh_str_of(NameStr(login));
    if (!bh_mode_own(row.mode))
        check_place();
    bh_context_bind(&by);
}

void
bh_login_bind(void)
{
    int32 no;

    if (bh_context_bound() || !is_session())
        return;
    no = owner();
    if (no != 0)
        bind_to(no);
}

int32
bh_login_tenant(void)
{
    return verdict.no;
}

/* ---- the start of a session ---- */

/*
 * Names are looked up before any hook of ours runs, so in a shared database the
 * session has its tenant's search_path and user from its start on.  The user can
 * do nothing yet: binding is what comes before each statement.
 */
static void
prepare_session(void)
{
    struct bh_tenant_row row;
    uint64 generation;
    int32 no = owner();

    if (no == 0 || !bh_tenant_table_get(no, &row, &generation) || bh_mode_own(row.mode))
        return;
    SetConfigOption("search_path", row.search_path, PGC_SUSET, PGC_S_OVERRIDE);
    role_at_commit = bh_context_role(&row.role);
}

static void
xact_ends(XactEvent event, void *arg pg_attribute_unused())
{
    if (started || !is_session())
        return;
    if (event == XACT_EVENT_PRE_COMMIT)
        prepare_session();
    if (event != XACT_EVENT_COMMIT)
        return;
    started = true;
    if (OidIsValid(role_at_commit))
        SetUserIdAndSecContext(role_at_commit, 0);
}

void
bh_login_register(void)
{
    CacheRegisterSyscacheCallback(AUTHOID, role_changed, (Datum)0);
    CacheRegisterSyscacheCallback(NAMESPACEOID, role_changed, (Datum)0);
    RegisterXactCallback(xact_ends, NULL);
}
