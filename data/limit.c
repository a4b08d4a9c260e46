#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "storage/bufmgr.h"
#include "tcop/pquery.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/numeric.h"

#include "data/compat.h"
#include "data/limit.h"
#include "data/raise.h"

/* Which value of a setting means "no limit". */
enum endless { ENDLESS_NEVER, ENDLESS_ZERO, ENDLESS_NEGATIVE };

struct spec {
    const char *name; /* bulkhead.<setting> */
    enum endless endless;
    double standard; /* -1: as the connection has it */
    double most;     /* of those that we count; the others have PostgreSQL's range */
};

static const struct spec specs[BH_LIMIT_COUNT] = {
    [BH_LIMIT_STATEMENT_TIMEOUT] = {"bulkhead.statement_timeout", ENDLESS_ZERO, 60000, 0},
    [BH_LIMIT_LOCK_TIMEOUT] = {"bulkhead.lock_timeout", ENDLESS_ZERO, 30000, 0},
    [BH_LIMIT_IDLE_IN_TRANSACTION_SESSION_TIMEOUT] =
        {"bulkhead.idle_in_transaction_session_timeout", ENDLESS_ZERO, 60000, 0},
    [BH_LIMIT_WORK_MEM] = {"bulkhead.work_mem", ENDLESS_NEVER, -1, 0},
    [BH_LIMIT_HASH_MEM_MULTIPLIER] = {"bulkhead.hash_mem_multiplier", ENDLESS_NEVER, -1, 0},
    [BH_LIMIT_MAINTENANCE_WORK_MEM] = {"bulkhead.maintenance_work_mem", ENDLESS_NEVER, -1, 0},
    [BH_LIMIT_TEMP_BUFFERS] = {"bulkhead.temp_buffers", ENDLESS_NEVER, -1, 0},
    [BH_LIMIT_TEMP_FILE_LIMIT] = {"bulkhead.temp_file_limit", ENDLESS_NEGATIVE, -1, 0},
    [BH_LIMIT_MAX_PARALLEL_WORKERS_PER_GATHER] = {"bulkhead.max_parallel_workers_per_gather",
        ENDLESS_NEVER, -1, 0},
    [BH_LIMIT_MAX_SUBTRANSACTIONS] = {"bulkhead.max_subtransactions", ENDLESS_NEVER, 10000, 1e6},
    [BH_LIMIT_MAX_NESTED_SUBTRANSACTIONS] = {"bulkhead.max_nested_subtransactions", ENDLESS_NEVER,
        256, 1e6},
    [BH_LIMIT_MAX_LOCKS] = {"bulkhead.max_locks", ENDLESS_NEVER, 64, 10000},
    [BH_LIMIT_MAX_CONCURRENT_STATEMENTS] = {"bulkhead.max_concurrent_statements", ENDLESS_ZERO, 0,
        10000},
    [BH_LIMIT_DATABASE_MS_PER_S] = {"bulkhead.database_ms_per_s", ENDLESS_ZERO, 0, 1e6},
    [BH_LIMIT_DATABASE_BURST_MS] = {"bulkhead.database_burst_ms", ENDLESS_NEVER, 1000, 3600000},
    [BH_LIMIT_DATABASE_DEBT_MS] = {"bulkhead.database_debt_ms", ENDLESS_NEVER, 60000, 3600000},
    [BH_LIMIT_MAX_WAIT_MS] = {"bulkhead.max_wait_ms", ENDLESS_NEVER, 1000, 60000},
};

static struct config_generic *settings[BH_LIMIT_SETTINGS];
static int default_int[BH_LIMIT_COUNT];
static double default_real;

/* Of the bound transaction; NaN: as the connection has it, which a reload may change. */
static bool active;
static enum bh_limits_how how;
static double ceilings[BH_LIMIT_COUNT];

static const char *
plain_name(int which)
{
    return specs[which].name + strlen("bulkhead.");
}

/* Values in one order: what means "no limit" is above all others. */
static double
rank(int which, double value)
{
    if ((specs[which].endless == ENDLESS_ZERO && value == 0) ||
        (specs[which].endless == ENDLESS_NEGATIVE && value < 0))
        return INFINITY;
    return value;
}

static double
current(int which)
{
    if (settings[which]->vartype == PGC_REAL)
        return *((struct config_real *)settings[which])->variable;
    return *((struct config_int *)settings[which])->variable;
}

static double
as_connected(int which)
{
    if (settings[which]->vartype == PGC_REAL)
        return ((struct config_real *)settings[which])->reset_val;
    return ((struct config_int *)settings[which])->reset_val;
}

static bool
above(int which, double value)
{
    double ceiling = isnan(ceilings[which]) ? as_connected(which) : ceilings[which];

    return rank(which, value) > rank(which, ceiling);
}

/* ---- whoever sets one of the settings ---- */

static GucIntCheckHook next_int[BH_LIMIT_SETTINGS];
static GucIntAssignHook next_int_assign[BH_LIMIT_SETTINGS];
static GucRealCheckHook next_real;
static GucRealAssignHook next_real_assign;

/* May ${which} be set to ${value}?  Where limits clamp it becomes what it may be. */
static bool
allowed(int which, double *value, GucSource source)
{
    if (!active || source != PGC_S_SESSION || !above(which, *value))
        return true;
    if (how != BH_LIMITS_REFUSE) {
        *value = ceilings[which];
        return true;
    }
    GUC_check_errcode(BH_TN_STATEMENT);
    GUC_check_errmsg("%s above the tenant's limit is not allowed", plain_name(which));
    GUC_check_errhint(
        "Stay at or below what SHOW %s says at the start of a transaction.", plain_name(which));
    return false;
}

static bool
allowed_int(int which, int *value, GucSource source)
{
    double wide = *value;
    bool ok = allowed(which, &wide, source);

    *value = (int)wide;
    return ok;
}

/*
 * set_config() with NULL goes back to the connection's default and asks no check
 * hook.  While a portal runs nothing else gives a bound tenant a value above its
 * limit: not the undoing of SETs (all of them were below it), not a reload (it
 * waits for the portal's end).
 */
static void
assigned(int which, double value)
{
    if (active && how == BH_LIMITS_REFUSE && ActivePortal != NULL && above(which, value))
        bh_raise_limit(plain_name(which));
}

/* PostgreSQL does not tell a hook which setting it checks. */
#define HOOKS_INT(name, which)                                                                     \
    static bool check_##name(int *value, void **extra, GucSource source)                           \
    {                                                                                              \
        return allowed_int(which, value, source) &&                                                \
               (next_int[which] == NULL || next_int[which](value, extra, source));                 \
    }                                                                                              \
    static void assign_##name(int value, void *extra)                                              \
    {                                                                                              \
        assigned(which, value);                                                                    \
        if (next_int_assign[which])                                                                \
            next_int_assign[which](value, extra);                                                  \
    }
HOOKS_INT(statement_timeout, BH_LIMIT_STATEMENT_TIMEOUT)
HOOKS_INT(lock_timeout, BH_LIMIT_LOCK_TIMEOUT)
HOOKS_INT(idle, BH_LIMIT_IDLE_IN_TRANSACTION_SESSION_TIMEOUT)
HOOKS_INT(work_mem, BH_LIMIT_WORK_MEM)
HOOKS_INT(maintenance, BH_LIMIT_MAINTENANCE_WORK_MEM)
HOOKS_INT(buffers, BH_LIMIT_TEMP_BUFFERS)
HOOKS_INT(files, BH_LIMIT_TEMP_FILE_LIMIT)
HOOKS_INT(workers, BH_LIMIT_MAX_PARALLEL_WORKERS_PER_GATHER)

static bool
check_multiplier(double *value, void **extra, GucSource source)
{
    return allowed(BH_LIMIT_HASH_MEM_MULTIPLIER, value, source) &&
           (next_real == NULL || next_real(value, extra, source));
}

static void
assign_multiplier(double value, void *extra)
{
    assigned(BH_LIMIT_HASH_MEM_MULTIPLIER, value);
    if (next_real_assign)
        next_real_assign(value, extra);
}

struct int_hooks {
    GucIntCheckHook check;
    GucIntAssignHook assign;
};

static const struct int_hooks int_hooks[BH_LIMIT_SETTINGS] = {
    [BH_LIMIT_STATEMENT_TIMEOUT] = {check_statement_timeout, assign_statement_timeout},
    [BH_LIMIT_LOCK_TIMEOUT] = {check_lock_timeout, assign_lock_timeout},
    [BH_LIMIT_IDLE_IN_TRANSACTION_SESSION_TIMEOUT] = {check_idle, assign_idle},
    [BH_LIMIT_WORK_MEM] = {check_work_mem, assign_work_mem},
    [BH_LIMIT_MAINTENANCE_WORK_MEM] = {check_maintenance, assign_maintenance},
    [BH_LIMIT_TEMP_BUFFERS] = {check_buffers, assign_buffers},
    [BH_LIMIT_TEMP_FILE_LIMIT] = {check_files, assign_files},
    [BH_LIMIT_MAX_PARALLEL_WORKERS_PER_GATHER] = {check_workers, assign_workers},
};

/* ---- declaring ---- */

static void
find_settings(void)
{
    int count;
    struct config_generic **all = bh_compat_settings(&count);

    for (int i = 0; i < count; i++)
        for (int which = 0; which < BH_LIMIT_SETTINGS; which++)
            if (strcmp(all[i]->name, plain_name(which)) == 0)
                settings[which] = all[i];
    for (int which = 0; which < BH_LIMIT_SETTINGS; which++)
        if (settings[which] == NULL)
            elog(ERROR, "this server has no setting %s", plain_name(which));
}

static void
define_real(int which)
{
    struct config_real *setting = (struct config_real *)settings[which];

    DefineCustomRealVariable(specs[which].name,
        "Limit of the setting without prefix for tenants that have none of their own; -1: none.",
        NULL, &default_real, specs[which].standard, -1, setting->max, PGC_SIGHUP, 0, NULL, NULL,
        NULL);
    next_real = setting->check_hook;
    next_real_assign = setting->assign_hook;
    setting->check_hook = check_multiplier;
    setting->assign_hook = assign_multiplier;
}

static void
define_int(int which)
{
    struct config_int *setting = (struct config_int *)settings[which];

    DefineCustomIntVariable(specs[which].name,
        "Limit of the setting without prefix for tenants that have none of their own; -1: none.",
        NULL, &default_int[which], (int)specs[which].standard, -1, setting->max, PGC_SIGHUP,
        setting->gen.flags & GUC_UNIT, NULL, NULL, NULL);
    next_int[which] = setting->check_hook;
    next_int_assign[which] = setting->assign_hook;
    setting->check_hook = int_hooks[which].check;
    setting->assign_hook = int_hooks[which].assign;
}

void
bh_limits_define(void)
{
    find_settings();
    for (int which = 0; which < BH_LIMIT_SETTINGS; which++) {
        if (settings[which]->vartype == PGC_REAL)
            define_real(which);
        else
            define_int(which);
    }
    for (int which = BH_LIMIT_SETTINGS; which < BH_LIMIT_COUNT; which++)
        DefineCustomIntVariable(specs[which].name, "Limit for tenants that have none of their own.",
            NULL, &default_int[which], (int)specs[which].standard, 0, (int)specs[which].most,
            PGC_SIGHUP, 0, NULL, NULL, NULL);
}

/* ---- the tenant's record ---- */

static void
bad_limit(const char *name, const char *why)
{
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                       errmsg("limit \"%s\" cannot be used: %s", name, why)));
}

static void
range(int which, double *ret_least, double *ret_most)
{
    *ret_least = 0;
    *ret_most = specs[which].most;
    if (which >= BH_LIMIT_SETTINGS)
        return;
    if (settings[which]->vartype == PGC_REAL) {
        *ret_least = ((struct config_real *)settings[which])->min;
        *ret_most = ((struct config_real *)settings[which])->max;
    } else {
        *ret_least = ((struct config_int *)settings[which])->min;
        *ret_most = ((struct config_int *)settings[which])->max;
    }
}

static bool
is_real(int which)
{
    return which < BH_LIMIT_SETTINGS && settings[which]->vartype == PGC_REAL;
}

static double
parse_text(int which, const char *text)
{
    int flags = which < BH_LIMIT_SETTINGS ? settings[which]->flags : 0;
    const char *hint = NULL;
    double real = 0;
    int whole = 0;
    bool ok = is_real(which) ? parse_real(text, &real, flags, &hint)
                             : parse_int(text, &whole, flags, &hint);

    if (!ok)
        bad_limit(plain_name(which), "its value is none of this setting");
    return is_real(which) ? real : whole;
}

static double
parse_value(int which, const JsonbValue *json)
{
    double value = 0;
    double least;
    double most;

    switch ((int)json->type) {
    case jbvNull:
        return NAN;
    case jbvString:
        value = parse_text(which, pnstrdup(json->val.string.val, (Size)json->val.string.len));
        break;
    case jbvNumeric:
        value = DatumGetFloat8(
            DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(json->val.numeric)));
        break;
    default:
        bad_limit(plain_name(which), "its value is neither number nor text");
    }
    range(which, &least, &most);
    if (!(value >= least && value <= most) || (!is_real(which) && value != floor(value)))
        bad_limit(plain_name(which), "its value is outside the setting's range");
    return value;
}

static int
find_limit(const JsonbValue *key)
{
    char *name = pnstrdup(key->val.string.val, (Size)key->val.string.len);

    for (int which = 0; which < BH_LIMIT_COUNT; which++)
        if (strcmp(name, plain_name(which)) == 0)
            return which;
    bad_limit(name, "there is no such limit");
    return BH_LIMIT_COUNT;
}

void
bh_limits_parse(Jsonb *json, struct bh_limits *ret_limits)
{
    JsonbIterator *iterator;
    JsonbValue part;
    JsonbIteratorToken token;
    int which = 0;

    for (int i = 0; i < BH_LIMIT_COUNT; i++)
        ret_limits->values[i] = NAN;
    if (!JB_ROOT_IS_OBJECT(json))
        bad_limit("*", "limits must be an object");
    iterator = JsonbIteratorInit(&json->root);
    while ((token = JsonbIteratorNext(&iterator, &part, true)) != WJB_DONE) {
        if (token == WJB_KEY)
            which = find_limit(&part);
        else if (token == WJB_VALUE)
            ret_limits->values[which] = parse_value(which, &part);
    }
}

/* ---- a transaction ---- */

/* temp_buffers cannot change any more once the backend has used some. */
static bool
fixed(int which)
{
    return which == BH_LIMIT_TEMP_BUFFERS && NLocBuffer > 0;
}

static void
set_to(int which, double value, GucSource source, GucAction action)
{
    char text[32];

    snprintf(text, sizeof(text), "%.17g", value);
    set_config_option(plain_name(which), text, PGC_SUSET, source, action, true, 0, false);
}

/* The tenant's own limit is the value; a default only lowers what the connection has. */
static void
apply_setting(int which, double own)
{
    double standard = is_real(which) ? default_real : default_int[which];
    double value = own;

    if (isnan(own) && standard >= 0 && rank(which, standard) < rank(which, as_connected(which)))
        value = standard;
    ceilings[which] = value;
    if (fixed(which))
        ceilings[which] = current(which);
    else if (!isnan(value) && current(which) != value)
        set_to(which, value, PGC_S_SESSION, GUC_ACTION_SAVE);
}

/*
 * In the session of a tenant's own login the default of the connection comes
 * down as well: RESET and DISCARD ALL find nothing higher.
 */
static void
bring_down(int which)
{
    if (fixed(which))
        return;
    if (how == BH_LIMITS_SESSION && above(which, as_connected(which)))
        set_to(which, ceilings[which], PGC_S_OVERRIDE, GUC_ACTION_SET);
    if (above(which, current(which)))
        set_to(which, ceilings[which], PGC_S_SESSION,
            how == BH_LIMITS_SESSION ? GUC_ACTION_SET : GUC_ACTION_SAVE);
}

static double
count_limit(int which, double own)
{
    if (!isnan(own))
        return own;
    return how == BH_LIMITS_REFUSE || which == BH_LIMIT_MAX_LOCKS ? default_int[which] : INT_MAX;
}

void
bh_limits_apply(const struct bh_limits *limits, enum bh_limits_how new_how)
{
    active = false;
    how = new_how;
    for (int which = 0; which < BH_LIMIT_SETTINGS; which++) {
        if (how == BH_LIMITS_REFUSE) {
            apply_setting(which, limits->values[which]);
            continue;
        }
        ceilings[which] = isnan(limits->values[which]) ? INFINITY : limits->values[which];
        bring_down(which);
    }
    for (int which = BH_LIMIT_SETTINGS; which < BH_LIMIT_COUNT; which++)
        ceilings[which] = count_limit(which, limits->values[which]);
    active = true;
}

void
bh_limits_end(void)
{
    active = false;
}

void
bh_limits_check(void)
{
    if (!active)
        return;
    for (int which = 0; which < BH_LIMIT_SETTINGS; which++) {
        if (!above(which, current(which)))
            continue;
        if (how == BH_LIMITS_REFUSE)
            bh_raise_limit(plain_name(which));
        if (!IsInParallelMode())
            bring_down(which);
    }
}

int
bh_limits_count(enum bh_limit which)
{
    return (int)ceilings[which];
}
