/*
 * bulkhead.tenant, cached in shared memory.
 *
 * The table is the truth and survives a restart; the cache is filled from it
 * on first use.  A transaction that changed rows marks the cache as pending
 * before it commits (readers then read the table) and drops what it changed
 * right after: once the change is acknowledged nobody is served the old row.
 */
#ifndef BH_DATA_TENANT_TABLE_H
#define BH_DATA_TENANT_TABLE_H

#include "postgres.h"

#include "core/tenant.h"
#include "data/limit.h"

#define BH_SEARCH_PATH_MAX 160

/* How a tenant is kept apart; see data/guard.h for what its statements may do. */
enum bh_mode {
    BH_MODE_NONE,     /* no tenant */
    BH_MODE_ROW,      /* one role and schema for many tenants, row security between them */
    BH_MODE_SCHEMA,   /* role and schema of its own */
    BH_MODE_DATABASE, /* database of its own */
    BH_MODE_INSTANCE  /* server of its own */
};

/** bh_mode_own(mode): does the tenant have the database for itself? */
static inline bool
bh_mode_own(enum bh_mode mode)
{
    return mode == BH_MODE_DATABASE || mode == BH_MODE_INSTANCE;
}

struct bh_tenant_row {
    int32 no;
    uint32 epoch;
    enum bh_mode mode;
    enum bh_tenant_state state;
    char id[BH_TENANT_ID_MAX + 1];
    NameData role;
    char search_path[BH_SEARCH_PATH_MAX]; /* "t42", pg_temp; in its own database "t42", public */
    struct bh_limits limits;
};

/** bh_tenant_table_request() / bh_tenant_table_startup(): shared memory, from these hooks. */
void bh_tenant_table_request(void);
void bh_tenant_table_startup(void);

/** bh_tenant_table_register(): watch the ends of transactions; once, at load. */
void bh_tenant_table_register(void);

/**
 * bh_tenant_table_get(no, ret_row, ret_generation):
 * Tenant ${no} of this database as last committed, whatever the transaction's
 * snapshot.  False where there is none.  ${ret_generation} is what
 * bh_tenant_table_generation() was before the read.  Raises where the table is
 * missing or a row cannot be used.
 */
bool bh_tenant_table_get(int32 no, struct bh_tenant_row *ret_row, uint64 *ret_generation);

/** bh_tenant_table_generation(): rises with every commit that changed tenants. */
uint64 bh_tenant_table_generation(void);

/**
 * bh_tenant_table_login(role):
 * Number of the tenant whose own login ${role} is: by bulkhead.login, else by
 * the role of its row in bulkhead.tenant (in mode `row` that role is nobody's
 * own).  0 where it is nobody's, or this database has no such tables.
 */
int32 bh_tenant_table_login(const char *role);

/** bh_tenant_table_dropping(classid, objectid): an object is about to be dropped; is it ours? */
void bh_tenant_table_dropping(Oid classid, Oid objectid);

#endif
