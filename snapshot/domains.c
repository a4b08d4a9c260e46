/* Which tenant a custom domain belongs to, and which domains a tenant has. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "snapshot/layout.h"

/* A domain that another tenant has taken since stays with that one. */
static int
forget_one(MDB_txn *txn, MDB_dbi table, struct bh_str host, const uint8_t no[BH_DOMAIN_NO])
{
    MDB_val key = {host.len, (void *)(uintptr_t)host.data};
    MDB_val value;
    int rc = mdb_get(txn, table, &key, &value);
    if (rc != 0 || value.mv_size < BH_DOMAIN_NO || memcmp(value.mv_data, no, BH_DOMAIN_NO) != 0) {
        return rc == MDB_NOTFOUND ? 0 : rc;
    }
    return mdb_del(txn, table, &key, NULL);
}

static int
forget_list(MDB_txn *txn, MDB_dbi table, struct bh_str list, const uint8_t no[BH_DOMAIN_NO])
{
    struct bh_str host;
    int rc = 0;
    while (rc == 0 && bh_str_cut(list, ' ', &host, &list)) {
        rc = forget_one(txn, table, host, no);
    }
    return rc == 0 && list.len > 0 ? forget_one(txn, table, list, no) : rc;
}

int
bh_domains_forget(MDB_txn *txn, const MDB_dbi tables[BH_TABLE_COUNT], int32_t no)
{
    uint8_t bytes[BH_DOMAIN_NO];
    bh_be32((uint32_t)no, bytes);
    MDB_val key = {sizeof(bytes), bytes};
    MDB_val value;
    int rc = mdb_get(txn, tables[BH_TABLE_DOMAINS], &key, &value);
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? 0 : rc;
    }
    char *copy = malloc(value.mv_size + 1); /* LMDB's values die with the next write */
    if (copy == NULL) {
        return ENOMEM;
    }
    memcpy(copy, value.mv_data, value.mv_size);
    rc = forget_list(txn, tables[BH_TABLE_DOMAIN], (struct bh_str){copy, value.mv_size}, bytes);
    free(copy);
    return rc == 0 ? mdb_del(txn, tables[BH_TABLE_DOMAINS], &key, NULL) : rc;
}

static int
put_one(MDB_txn *txn, MDB_dbi table, struct bh_str host, MDB_val value)
{
    MDB_val key = {host.len, (void *)(uintptr_t)host.data};
    return host.len == 0 || host.len > BH_DOMAIN_MAX ? MDB_BAD_VALSIZE
                                                     : mdb_put(txn, table, &key, &value, 0);
}

int
bh_domains_put(
    MDB_txn *txn, const MDB_dbi tables[BH_TABLE_COUNT], const struct bh_tenant_facts *facts)
{
    uint8_t bytes[BH_DOMAIN_NO + BH_TENANT_ID_MAX];
    struct bh_str host;
    struct bh_str rest = facts->domains;
    if (rest.len == 0) {
        return 0;
    }
    bh_be32((uint32_t)facts->no, bytes);
    memcpy(bytes + BH_DOMAIN_NO, facts->id.data, facts->id.len);
    MDB_val value = {BH_DOMAIN_NO + facts->id.len, bytes};
    MDB_val no = {BH_DOMAIN_NO, bytes};
    MDB_val list = {rest.len, (void *)(uintptr_t)rest.data};
    int rc = mdb_put(txn, tables[BH_TABLE_DOMAINS], &no, &list, 0);
    while (rc == 0 && bh_str_cut(rest, ' ', &host, &rest)) {
        rc = put_one(txn, tables[BH_TABLE_DOMAIN], host, value);
    }
    return rc == 0 ? put_one(txn, tables[BH_TABLE_DOMAIN], rest, value) : rc;
}
