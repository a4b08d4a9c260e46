#include "snapshot/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "snapshot/layout.h"

struct bh_snapshot {
    MDB_env *env;
    bool owns_env;
    bool inside; /* between begin and end */
    MDB_txn *txn;
    MDB_dbi tables[BH_TABLE_COUNT];
};

const char *
bh_table_name(enum bh_table table)
{
    static const char *const names[BH_TABLE_COUNT] = {
        [BH_TABLE_META] = "meta",
        [BH_TABLE_TENANT] = "tenant",
        [BH_TABLE_NUMBER] = "number",
        [BH_TABLE_NAME] = "name",
        [BH_TABLE_NAME_OF] = "name_of",
        [BH_TABLE_DOCUMENT] = "document",
        [BH_TABLE_DOMAIN] = "domain",
        [BH_TABLE_DOMAINS] = "domains",
    };
    return names[table];
}

void
bh_be32(uint32_t value, uint8_t ret_bytes[4])
{
    ret_bytes[0] = (uint8_t)(value >> 24);
    ret_bytes[1] = (uint8_t)(value >> 16);
    ret_bytes[2] = (uint8_t)(value >> 8);
    ret_bytes[3] = (uint8_t)value;
}

enum bh_code
bh_mdb_fail(struct bh_error *err, int rc, const char *what, const char *path)
{
    enum bh_code code = BH_E_INTERNAL;
    if (rc == ENOENT || rc == MDB_NOTFOUND || rc == MDB_READERS_FULL) {
        code = BH_E_NOT_READY;
    } else if (rc == EACCES || rc == EPERM || rc == MDB_INVALID || rc == MDB_VERSION_MISMATCH ||
               rc == ENOTDIR) {
        code = BH_E_CONFIG;
    } else if (rc == ENOSPC || rc == EIO || rc == MDB_MAP_FULL) {
        code = BH_E_UNAVAILABLE;
    } else if (rc == ENOMEM) {
        code = BH_E_NO_MEMORY;
    }
    bh_fail(err, code, "cannot %s snapshot %s: %s", what, path, mdb_strerror(rc));
    if (rc == ENOSPC) {
        (void)bh_hint(err, "make room on its file system (df %s); it is tried again", path);
    }
    return code;
}

enum bh_code
bh_env_new(MDB_env **ret_env, const char *path, struct bh_error *err)
{
    MDB_env *env = NULL;
    int rc = mdb_env_create(&env);
    if (rc == 0) {
        rc = mdb_env_set_maxdbs(env, BH_TABLE_COUNT);
    }
    if (rc == 0) {
        rc = mdb_env_set_maxreaders(env, BH_SNAPSHOT_READERS);
    }
    if (rc != 0) {
        mdb_env_close(env);
        return bh_mdb_fail(err, rc, "prepare", path);
    }
    *ret_env = env;
    return BH_OK;
}

static int
get_text(MDB_txn *txn, MDB_dbi table, const char *key, MDB_val *ret_value)
{
    MDB_val k = {strlen(key), (void *)(uintptr_t)key};
    return mdb_get(txn, table, &k, ret_value);
}

enum bh_code
bh_format_check(MDB_txn *txn, MDB_dbi meta, const char *path, bool *ret_older, struct bh_error *err)
{
    MDB_val value;
    int rc = get_text(txn, meta, BH_META_FORMAT, &value);
    if (rc == MDB_NOTFOUND) {
        return BH_OK;
    }
    if (rc != 0) {
        return bh_mdb_fail(err, rc, "read the format of", path);
    }
    uint32_t format = 0;
    if (value.mv_size == sizeof(format)) {
        memcpy(&format, value.mv_data, sizeof(format));
    }
    if (ret_older != NULL) {
        *ret_older = format > 0 && format < BH_SNAPSHOT_FORMAT;
    }
    if (format != BH_SNAPSHOT_FORMAT) {
        bh_fail(err, BH_E_CONFIG, "snapshot %s has format %u, this program reads %u", path, format,
            BH_SNAPSHOT_FORMAT);
        (void)bh_hint(err, "remove %s while the agent is stopped: it fetches a new one", path);
        return BH_E_CONFIG;
    }
    return BH_OK;
}

/* Where one is missing, or no feed has been applied yet, there is nothing to serve from. */
static enum bh_code
open_tables(MDB_txn *txn, MDB_dbi tables[BH_TABLE_COUNT], const char *path, struct bh_error *err)
{
    for (int i = 0; i < BH_TABLE_COUNT; i++) {
        int rc = mdb_dbi_open(txn, bh_table_name((enum bh_table)i), 0, &tables[i]);
        if (rc != 0) {
            return bh_mdb_fail(err, rc, "read", path);
        }
        if (i == BH_TABLE_META) {
            BH_TRY(bh_format_check(txn, tables[i], path, NULL, err));
        }
    }
    MDB_val value;
    int rc = get_text(txn, tables[BH_TABLE_META], BH_META_STATE, &value);
    if (rc == MDB_NOTFOUND) {
        return bh_fail(err, BH_E_NOT_READY, "snapshot %s is empty: no feed was applied yet", path);
    }
    return rc == 0 ? BH_OK : bh_mdb_fail(err, rc, "read", path);
}

enum bh_code
bh_snapshot_on(
    MDB_env *env, const char *path, struct bh_snapshot **ret_snapshot, struct bh_error *err)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
    if (rc == MDB_MAP_RESIZED) {
        mdb_env_set_mapsize(env, 0);
        rc = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
    }
    if (rc != 0) {
        return bh_mdb_fail(err, rc, "read", path);
    }
    MDB_dbi tables[BH_TABLE_COUNT];
    enum bh_code code = open_tables(txn, tables, path, err);
    if (code != BH_OK) {
        mdb_txn_abort(txn);
        return code;
    }
    mdb_txn_commit(txn); /* a read-only commit keeps the handles */
    struct bh_snapshot *snapshot = calloc(1, sizeof(*snapshot));
    if (snapshot == NULL) {
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for a snapshot reader");
    }
    snapshot->env = env;
    memcpy(snapshot->tables, tables, sizeof(tables));
    *ret_snapshot = snapshot;
    return BH_OK;
}

enum bh_code
bh_snapshot_open(const char *path, struct bh_snapshot **ret_snapshot, struct bh_error *err)
{
    /* With MDB_RDONLY, LMDB still makes a lock file beside no data: look first. */
    char data[4096];
    int len = snprintf(data, sizeof(data), "%s/data.mdb", path);
    struct stat st;
    if (len < 0 || (size_t)len >= sizeof(data)) {
        return bh_fail(err, BH_E_CONFIG, "path too long: %s", path);
    }
    if (stat(data, &st) != 0) {
        return bh_mdb_fail(err, errno, "open", path);
    }
    MDB_env *env;
    BH_TRY(bh_env_new(&env, path, err));
    int rc = mdb_env_open(env, path, MDB_RDONLY | MDB_NOTLS, 0600);
    if (rc == 0) {
        /* Killed readers leave their slots behind; 1022 of them would lock everybody out. */
        rc = mdb_reader_check(env, NULL);
    }
    enum bh_code code =
        rc != 0 ? bh_mdb_fail(err, rc, "open", path) : bh_snapshot_on(env, path, ret_snapshot, err);
    if (code != BH_OK) {
        mdb_env_close(env);
        return code;
    }
    (*ret_snapshot)->owns_env = true;
    return BH_OK;
}

void
bh_snapshot_close(struct bh_snapshot *snapshot)
{
    if (snapshot == NULL) {
        return;
    }
    mdb_txn_abort(snapshot->txn);
    if (snapshot->owns_env) {
        mdb_env_close(snapshot->env);
    }
    free(snapshot);
}

bool
bh_snapshot_replaced(struct bh_snapshot *snapshot)
{
    mdb_filehandle_t fd;
    struct stat st;
    return mdb_env_get_fd(snapshot->env, &fd) != 0 || fstat(fd, &st) != 0 || st.st_nlink == 0;
}

uint64_t
bh_snapshot_newest(struct bh_snapshot *snapshot)
{
    MDB_envinfo info;
    return mdb_env_info(snapshot->env, &info) == 0 ? info.me_last_txnid : 0;
}

static int
start(struct bh_snapshot *snapshot)
{
    if (snapshot->txn != NULL) {
        return mdb_txn_renew(snapshot->txn);
    }
    return mdb_txn_begin(snapshot->env, NULL, MDB_RDONLY, &snapshot->txn);
}

enum bh_code
bh_snapshot_begin(struct bh_snapshot *snapshot, struct bh_error *err)
{
    int rc = start(snapshot);
    if (rc == MDB_MAP_RESIZED) {
        /* The writer grew the map: take its new size, then it fits. */
        rc = mdb_env_set_mapsize(snapshot->env, 0);
        rc = rc == 0 ? start(snapshot) : rc;
    }
    if (rc != 0) {
        return bh_mdb_fail(err, rc, "read", "at begin");
    }
    snapshot->inside = true;
    return BH_OK;
}

void
bh_snapshot_end(struct bh_snapshot *snapshot)
{
    if (snapshot->inside) {
        mdb_txn_reset(snapshot->txn);
        snapshot->inside = false;
    }
}

bool
bh_snapshot_get(struct bh_snapshot *snapshot, struct bh_str id, struct bh_record *ret_record)
{
    MDB_val key = {id.len, (void *)(uintptr_t)id.data};
    MDB_val value;
    if (id.len == 0 || id.len > BH_TENANT_ID_MAX ||
        mdb_get(snapshot->txn, snapshot->tables[BH_TABLE_TENANT], &key, &value) != 0 ||
        value.mv_size != sizeof(*ret_record)) {
        return false;
    }
    memcpy(ret_record, value.mv_data, sizeof(*ret_record));
    return true;
}

bool
bh_snapshot_id(struct bh_snapshot *snapshot, int32_t no, char ret_id[BH_TENANT_ID_MAX + 1])
{
    uint8_t bytes[4];
    bh_be32((uint32_t)no, bytes);
    MDB_val key = {sizeof(bytes), bytes};
    MDB_val id;
    if (mdb_get(snapshot->txn, snapshot->tables[BH_TABLE_NUMBER], &key, &id) != 0 ||
        id.mv_size > BH_TENANT_ID_MAX) {
        return false;
    }
    memcpy(ret_id, id.mv_data, id.mv_size);
    ret_id[id.mv_size] = '\0';
    return true;
}

bool
bh_snapshot_find(struct bh_snapshot *snapshot, int32_t no, struct bh_record *ret_record)
{
    char id[BH_TENANT_ID_MAX + 1];
    struct bh_record record;
    if (!bh_snapshot_id(snapshot, no, id) || !bh_snapshot_get(snapshot, bh_str_of(id), &record) ||
        record.no != no) {
        return false;
    }
    *ret_record = record;
    return true;
}

struct bh_str
bh_snapshot_name(struct bh_snapshot *snapshot, enum bh_name_kind kind, uint32_t number)
{
    uint8_t bytes[BH_NAME_KEY];
    bytes[0] = (uint8_t)kind;
    bh_be32(number, bytes + 1);
    MDB_val key = {sizeof(bytes), bytes};
    MDB_val value;
    if (mdb_get(snapshot->txn, snapshot->tables[BH_TABLE_NAME], &key, &value) != 0) {
        return BH_STR("");
    }
    return (struct bh_str){value.mv_data, value.mv_size};
}

bool
bh_snapshot_document(
    struct bh_snapshot *snapshot, struct bh_str name, struct bh_document *ret_document)
{
    MDB_val key = {name.len, (void *)(uintptr_t)name.data};
    MDB_val value;
    return name.len > 0 && name.len <= BH_DOCUMENT_NAME_MAX &&
           mdb_get(snapshot->txn, snapshot->tables[BH_TABLE_DOCUMENT], &key, &value) == 0 &&
           bh_document_split(value, ret_document);
}

bool
bh_snapshot_domain(
    struct bh_snapshot *snapshot, struct bh_str host, char ret_id[BH_TENANT_ID_MAX + 1])
{
    MDB_val key = {host.len, (void *)(uintptr_t)host.data};
    MDB_val value;
    if (host.len == 0 || host.len > BH_DOMAIN_MAX ||
        mdb_get(snapshot->txn, snapshot->tables[BH_TABLE_DOMAIN], &key, &value) != 0 ||
        value.mv_size <= BH_DOMAIN_NO || value.mv_size > BH_DOMAIN_NO + BH_TENANT_ID_MAX) {
        return false;
    }
    size_t len = value.mv_size - BH_DOMAIN_NO;
    memcpy(ret_id, (const char *)value.mv_data + BH_DOMAIN_NO, len);
    ret_id[len] = '\0';
    return true;
}

void
bh_snapshot_meta(struct bh_snapshot *snapshot, struct bh_snapshot_meta *ret_meta)
{
    MDB_val value;
    memset(ret_meta, 0, sizeof(*ret_meta));
    if (get_text(snapshot->txn, snapshot->tables[BH_TABLE_META], BH_META_STATE, &value) == 0 &&
        value.mv_size == sizeof(*ret_meta)) {
        memcpy(ret_meta, value.mv_data, sizeof(*ret_meta));
    }
}

uint64_t
bh_snapshot_txn(struct bh_snapshot *snapshot)
{
    return mdb_txn_id(snapshot->txn);
}

void
bh_snapshot_each(struct bh_snapshot *snapshot,
    bool (*visit)(void *arg, struct bh_str id, const struct bh_record *record), void *arg)
{
    MDB_cursor *cursor;
    if (mdb_cursor_open(snapshot->txn, snapshot->tables[BH_TABLE_TENANT], &cursor) != 0) {
        return;
    }
    MDB_val key;
    MDB_val value;
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
        struct bh_record record;
        if (value.mv_size != sizeof(record)) {
            continue;
        }
        memcpy(&record, value.mv_data, sizeof(record));
        if (!visit(arg, (struct bh_str){key.mv_data, key.mv_size}, &record)) {
            break;
        }
    }
    mdb_cursor_close(cursor);
}
