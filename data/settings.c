#include "postgres.h"

#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "data/limit.h"
#include "data/memory.h"
#include "data/sets.h"
#include "data/settings.h"

char *bh_server;
char *bh_key_file;
int bh_max_transaction_age;
int bh_max_tenants;
bool bh_metering;
int bh_usage_entries;
bool bh_literal_token;
bool bh_discard_all;
int bh_audit_entries;
int bh_audit_rate;
int bh_audit_burst;
int bh_log_rate;
int bh_pooler;

static char *pool_roles;
static char *extensions;

/* The verdict on the session user; forgotten by role_changed(). */
static Oid judged_user = InvalidOid;
static bool judged_pool;

static const struct config_enum_entry pooler_names[] = {
    {"none", BH_POOLER_NONE, false},
    {"pgbouncer", BH_POOLER_PGBOUNCER, false},
    {NULL, 0, false},
};

static void
role_changed(Datum arg pg_attribute_unused(), int cache pg_attribute_unused(),
    uint32 hash pg_attribute_unused())
{
    judged_user = InvalidOid;
}

static bool
list_check(char **value, void **extra pg_attribute_unused(), GucSource source pg_attribute_unused())
{
    char *copy = pstrdup(*value ? *value : "");
    List *names = NIL;
    bool ok = SplitIdentifierString(copy, ',', &names);

    if (!ok)
        GUC_check_errdetail("It must be a list of names, separated by commas.");
    list_free(names);
    pfree(copy);
    return ok;
}

static void
pool_roles_assign(const char *value pg_attribute_unused(), void *extra pg_attribute_unused())
{
    judged_user = InvalidOid;
}

static void
define_server_settings(void)
{
    DefineCustomStringVariable("bulkhead.server", "Name of this server in the audience of tokens.",
        NULL, &bh_server, "main", PGC_SIGHUP, 0, NULL, NULL, NULL);
    DefineCustomStringVariable("bulkhead.key_file",
        "File with the keys that tenant tokens are checked with.",
        "Read again after each reload; without it no token is accepted.", &bh_key_file, "",
        PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
    DefineCustomStringVariable("bulkhead.pool_roles",
        "Logins that may do nothing until a tenant is bound.", NULL, &pool_roles, "bulkhead_pool",
        PGC_SIGHUP, GUC_LIST_INPUT, list_check, pool_roles_assign, NULL);
    DefineCustomStringVariable("bulkhead.extensions",
        "Extensions that a tenant may create in its own database.", NULL, &extensions,
        "btree_gin, btree_gist, citext, cube, fuzzystrmatch, hstore, intarray, isn, ltree, pg_trgm, "
        "pgcrypto, seg, tablefunc, tsm_system_rows, tsm_system_time, unaccent, \"uuid-ossp\"",
        PGC_SIGHUP, GUC_LIST_INPUT, list_check, NULL, NULL);
    DefineCustomIntVariable("bulkhead.max_transaction_age",
        "How long a transaction may run statements for its tenant.", NULL, &bh_max_transaction_age,
        300, 1, 86400, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
    DefineCustomIntVariable("bulkhead.max_tenants",
        "Tenants kept in shared memory; others are read from the table each time.", NULL,
        &bh_max_tenants, 16384, 16, 1048576, PGC_POSTMASTER, 0, NULL, NULL, NULL);
    DefineCustomBoolVariable("bulkhead.metering",
        "Measure what tenants use, and hold their shares.", NULL, &bh_metering, true,
        PGC_POSTMASTER, 0, NULL, NULL, NULL);
    DefineCustomIntVariable("bulkhead.usage_entries",
        "Tenants whose usage is kept in shared memory; that of others waits in a file.", NULL,
        &bh_usage_entries, 16384, 16, 1048576, PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

static void
define_audit_settings(void)
{
    DefineCustomIntVariable("bulkhead.audit_entries",
        "Refused attempts that the audit ring holds; about 700 bytes each.", NULL,
        &bh_audit_entries, 4096, 64, 1048576, PGC_POSTMASTER, 0, NULL, NULL, NULL);
    DefineCustomIntVariable("bulkhead.audit_rate",
        "Refused attempts of one tenant that are recorded each second; more are counted.", NULL,
        &bh_audit_rate, 10, 1, 10000, PGC_SIGHUP, 0, NULL, NULL, NULL);
    DefineCustomIntVariable("bulkhead.audit_burst",
        "Refused attempts of one tenant that are recorded at once.", NULL, &bh_audit_burst, 100, 1,
        100000, PGC_SIGHUP, 0, NULL, NULL, NULL);
    DefineCustomIntVariable("bulkhead.log_rate",
        "Warnings and errors of one tenant that the server's log takes each second; 0 is no limit.",
        "After 1000 at once; more are counted.", &bh_log_rate, 20, 0, 10000, PGC_SIGHUP, 0, NULL,
        NULL, NULL);
}

/* Superusers set these for a pool role with ALTER ROLE ... SET. */
static void
define_role_settings(void)
{
    DefineCustomBoolVariable("bulkhead.literal_token",
        "Accept a token that is written into the statement.",
        "A literal token is seen in logs and pg_stat_statements.", &bh_literal_token, false,
        PGC_SUSET, 0, NULL, NULL, NULL);
    DefineCustomBoolVariable("bulkhead.discard_all",
        "Let a pool role send DISCARD ALL and DEALLOCATE ALL outside a bound transaction.",
        "PgBouncer before 1.22 does not notice that its statements are gone.", &bh_discard_all,
        false, PGC_SUSET, 0, NULL, NULL, NULL);
    DefineCustomEnumVariable("bulkhead.pooler", "Who keeps client settings apart.", NULL,
        &bh_pooler, BH_POOLER_NONE, pooler_names, PGC_SUSET, 0, NULL, NULL, NULL);
}

void
bh_settings_define(void)
{
    define_server_settings();
    define_audit_settings();
    define_role_settings();
    bh_limits_define();
    bh_memory_define();
    bh_sets_define();
    MarkGUCPrefixReserved("bulkhead");
    CacheRegisterSyscacheCallback(AUTHOID, role_changed, (Datum)0);
}

/* Is ${name} in the list?  ${broken} where it is none, which the check hook does not let through.
 */
static bool
in_list(const char *list, const char *name, bool broken)
{
    char *copy = pstrdup(list ? list : "");
    List *names = NIL;
    bool found = false;
    ListCell *cell;

    if (!SplitIdentifierString(copy, ',', &names))
        found = broken;
    foreach (cell, names)
        found = found || strcmp((const char *)lfirst(cell), name) == 0;
    list_free(names);
    pfree(copy);
    return found;
}

bool
bh_settings_pool_role(const char *name)
{
    return in_list(pool_roles, name, true);
}

bool
bh_settings_extension(const char *name)
{
    return in_list(extensions, name, false);
}

bool
bh_settings_pool_session(void)
{
    Oid user = GetSessionUserId();
    const char *name;

    if (user == judged_user)
        return judged_pool;
    name = GetUserNameFromId(user, true);
    /* A login that was dropped under its session may do no more than a pool role. */
    judged_pool = name == NULL || bh_settings_pool_role(name);
    judged_user = user;
    return judged_pool;
}
