#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/plancache.h"
#include "utils/syscache.h"

#include "data/compat.h"
#include "data/context.h"
#include "data/label.h"
#include "data/raise.h"
#include "data/rows.h"

static ExecutorCheckPerms_hook_type next_check;
static ExecutorRun_hook_type next_run;

/* Queries of foreign keys that run, and whether they ran others: triggers that fire before a row
 * changes do.  Row security holds no owner there. */
static int key_depth;
static bool key_nested;

struct relation {
    Oid schema;
    Oid owner;
    char kind;
    bool secured; /* row security holds everybody, its owner too */
    char name[NAMEDATALEN];
};

static bool
find_relation(Oid relid, struct relation *ret)
{
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
    Form_pg_class form;

    if (!HeapTupleIsValid(tuple))
        return false;
    form = (Form_pg_class)GETSTRUCT(tuple);
    ret->schema = form->relnamespace;
    ret->owner = form->relowner;
    ret->kind = form->relkind;
    ret->secured = form->relrowsecurity && form->relforcerowsecurity;
    strlcpy(ret->name, NameStr(form->relname), sizeof(ret->name));
    ReleaseSysCache(tuple);
    return true;
}

/* Their rows are nobody's: catalogues have rights of their own, and so has our schema. */
static bool
of_the_system(const struct relation *relation)
{
    const char *schema;

    if (IsCatalogNamespace(relation->schema) || IsToastNamespace(relation->schema))
        return true;
    schema = get_namespace_name(relation->schema);
    return schema != NULL &&
           (strcmp(schema, "information_schema") == 0 || strcmp(schema, "bulkhead") == 0);
}

/* Samples of every column that one may read, of all tenants where row security does not hide them.
 */
static bool
tells_values(const struct relation *relation)
{
    return IsCatalogNamespace(relation->schema) &&
           strncmp(relation->name, "pg_stats", strlen("pg_stats")) == 0;
}

/* What is under a view has an entry of its own, and a sequence has no rows. */
static bool
has_rows(const struct relation *relation)
{
    return relation->kind != RELKIND_VIEW && relation->kind != RELKIND_SEQUENCE;
}

static void
refuse(const struct relation *relation, const char *why, const char *hint)
{
    ereport(ERROR, (errcode(BH_TN_STATEMENT), errmsg("table \"%s\" %s", relation->name, why),
                       errhint("%s", hint)));
}

/* Foreign keys check as the owner of the table, under row security that does not hold him. */
static void
check_entry(const BH_PERMS_ENTRY *entry)
{
    struct relation relation;
    Oid user = OidIsValid(entry->checkAsUser) ? entry->checkAsUser : GetUserId();

    if (!BH_PERMS_OF_RELATION(entry) || entry->requiredPerms == 0 ||
        !find_relation(entry->relid, &relation))
        return;
    if (tells_values(&relation))
        refuse(&relation, "tells of other tenants' rows", "Ask the operator.");
    if (!has_rows(&relation) || of_the_system(&relation))
        return;
    if (bh_label_shared(entry->relid)) {
        if ((entry->requiredPerms & ~(AclMode)ACL_SELECT) != 0)
            refuse(&relation, "is shared by all tenants and can only be read",
                "Write to it as its owner, outside a bound transaction.");
        return;
    }
    if (!relation.secured)
        refuse(&relation, "is not protected by row security",
            "The operator makes it safe with bulkhead.protect(), or labels it as shared.");
    if (has_bypassrls_privilege(user))
        refuse(&relation, "is read by a view or function whose owner row security does not hold",
            "The operator gives the view or function to a role without SUPERUSER and BYPASSRLS.");
    if (key_depth > 0 && has_privs_of_role(user, relation.owner))
        refuse(&relation,
            "is used by a trigger inside a foreign key's action, where row security is off",
            "Make it an AFTER trigger.");
}

static bool
check_permissions(List *table BH_PERMS_PARAM, bool raise)
{
    ListCell *cell;

    key_nested = key_nested || key_depth > 0;
    if (bh_context_mode() == BH_MODE_ROW && (key_depth > 0 || !InNoForceRLSOperation()))
        foreach (cell, BH_PERMS_ENTRIES(table))
            check_entry(lfirst_node(BH_PERMS_ENTRY, cell));
    return next_check == NULL || next_check(table BH_PERMS_ARG, raise);
}

static void
run(QueryDesc *query, ScanDirection direction, uint64 count BH_ONCE_PARAM)
{
    if (next_run)
        next_run(query, direction, count BH_ONCE_ARG);
    else
        standard_ExecutorRun(query, direction, count BH_ONCE_ARG);
}

/*
 * What was planned inside a foreign key's query was planned without row security, and
 * PostgreSQL would keep it for the next call of the same function by the same user.
 */
static void
run_watched(QueryDesc *query, ScanDirection direction, uint64 count BH_ONCE_PARAM)
{
    bool done = false;

    if (bh_context_mode() != BH_MODE_ROW || !InNoForceRLSOperation()) {
        run(query, direction, count BH_ONCE_ARG);
        return;
    }
    key_depth++;
    PG_TRY();
    {
        run(query, direction, count BH_ONCE_ARG);
        done = true;
    }
    PG_FINALLY();
    {
        if (--key_depth == 0 && (key_nested || !done)) {
            key_nested = false;
            ResetPlanCache();
        }
    }
    PG_END_TRY();
}

void
bh_rows_install(void)
{
    next_run = ExecutorRun_hook;
    ExecutorRun_hook = run_watched;
    next_check = ExecutorCheckPerms_hook;
    ExecutorCheckPerms_hook = check_permissions;
}
