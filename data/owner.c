/*
 * What a superuser does to a table of somebody's, with that somebody's rights.
 *
 * PostgreSQL evaluates parts of index expressions, CHECK constraints and partition
 * keys while it plans a query or alters a table: functions that the owner wrote.  The
 * power of whoever asks must not be theirs.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_class.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* Opens ${relid}, which the caller's rights must reach and which is a table. */
static Relation
open_table(Oid relid)
{
    Relation table = relation_open(relid, AccessShareLock);

    if (!has_privs_of_role(GetUserId(), table->rd_rel->relowner))
        aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, RelationGetRelationName(table));
    if (table->rd_rel->relkind != RELKIND_RELATION &&
        table->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                           errmsg("\"%s\" is not a table", RelationGetRelationName(table))));
    return table;
}

/* In an SPI connection.  An error restores the user with its (sub)transaction. */
static void
run_as(Oid owner, int flags, const char *sql)
{
    Oid user;
    int context;
    int nest;

    GetUserIdAndSecContext(&user, &context);
    SetUserIdAndSecContext(owner, context | SECURITY_RESTRICTED_OPERATION | flags);
    nest = NewGUCNestLevel();
    if (SPI_execute(sql, false, 0) < 0)
        elog(ERROR, "SPI_execute failed: %s", sql);
    AtEOXact_GUC(false, nest);
    SetUserIdAndSecContext(user, context);
}

#pragma GCC visibility push(default)
PG_FUNCTION_INFO_V1(bh_as_owner);
PG_FUNCTION_INFO_V1(bh_count_rows);
#pragma GCC visibility pop

/* ALTER TABLE refuses a table that its own session has open: only the lock is kept. */
Datum
bh_as_owner(PG_FUNCTION_ARGS)
{
    Relation table = open_table(PG_GETARG_OID(0));
    Oid owner = table->rd_rel->relowner;

    relation_close(table, NoLock);
    SPI_connect();
    run_as(owner, 0, text_to_cstring(PG_GETARG_TEXT_PP(1)));
    SPI_finish();
    PG_RETURN_VOID();
}

/* All rows, past row security, as a foreign key sees them. */
Datum
bh_count_rows(PG_FUNCTION_ARGS)
{
    Relation table = open_table(PG_GETARG_OID(0));
    const char *name = quote_qualified_identifier(
        get_namespace_name(RelationGetNamespace(table)), RelationGetRelationName(table));
    Datum count;
    bool isnull;

    SPI_connect();
    run_as(table->rd_rel->relowner, SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS,
        psprintf("SELECT pg_catalog.count(*) FROM %s", name));
    count = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
    SPI_finish();
    relation_close(table, NoLock);
    PG_RETURN_DATUM(count);
}
