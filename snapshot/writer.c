#include "snapshot/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/layout.h"
#include "snapshot/place.h"

/* Address space, not memory: what one transaction may write (a million tenants need 130 MB). */
#define RESERVE ((size_t)1 << 30)

struct bh_snapshot_writer {
    MDB_env *env;
    MDB_txn *txn;
    bool failed;
    int lock; /* held as long as we may write */
    size_t reserve;
    char path[PATH_MAX];
    MDB_dbi tables[BH_TABLE_COUNT];
};

static enum bh_code
broke(struct bh_snapshot_writer *writer, int rc, struct bh_error *err)
{
    writer->failed = true;
    return bh_mdb_fail(err, rc, "write", writer->path);
}

static enum bh_code
take_lock(struct bh_snapshot_writer *writer, struct bh_error *err)
{
    char path[PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s/writer.lock", writer->path);
    writer->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (writer->lock < 0) {
        return bh_fail(err, BH_E_CONFIG, "cannot open %s: %s", path, strerror(errno));
    }
    if (flock(writer->lock, LOCK_EX | LOCK_NB) != 0) {
        bh_fail(err, BH_E_CONFLICT, "another process writes the snapshot %s", writer->path);
        (void)bh_hint(err, "only one agent may use this state directory: stop the other one");
        return BH_E_CONFLICT;
    }
    return bh_place_own(writer->lock, path, err);
}

static enum bh_code
make_directory(const char *path, struct bh_error *err)
{
    if (mkdir(path, 0700) == 0) {
        return bh_place_own(-1, path, err);
    }
    if (errno != EEXIST) {
        return bh_fail(err, BH_E_CONFIG, "cannot make directory %s: %s", path, strerror(errno));
    }
    return BH_OK;
}

static enum bh_code
make_tables(struct bh_snapshot_writer *writer, bool *ret_older, struct bh_error *err)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(writer->env, NULL, 0, &txn);
    if (rc != 0) {
        return bh_mdb_fail(err, rc, "write", writer->path);
    }
    for (int i = 0; i < BH_TABLE_COUNT && rc == 0; i++) {
        rc = mdb_dbi_open(txn, bh_table_name((enum bh_table)i), MDB_CREATE, &writer->tables[i]);
    }
    enum bh_code code = rc != 0 ? bh_mdb_fail(err, rc, "write", writer->path) : BH_OK;
    if (code == BH_OK) {
        code = bh_format_check(txn, writer->tables[BH_TABLE_META], writer->path, ret_older, err);
    }
    if (code != BH_OK) {
        mdb_txn_abort(txn);
        return code;
    }
    uint32_t format = BH_SNAPSHOT_FORMAT;
    MDB_val key = {strlen(BH_META_FORMAT), (void *)(uintptr_t)BH_META_FORMAT};
    MDB_val value = {sizeof(format), &format};
    rc = mdb_put(txn, writer->tables[BH_TABLE_META], &key, &value, 0);
    if (rc != 0) {
        mdb_txn_abort(txn);
    } else {
        rc = mdb_txn_commit(txn);
    }
    return rc == 0 ? BH_OK : bh_mdb_fail(err, rc, "write", writer->path);
}

static const char *const files[] = {"data.mdb", "lock.mdb"};

/*
 * LMDB maps its table of readers from a sparse file: where the disk is full, a
 * reader that takes a place on a page that is not there yet would get SIGBUS.
 */
static enum bh_code
fill_lock_file(const char *path, struct bh_error *err)
{
    struct stat st;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    int rc = fd < 0 || fstat(fd, &st) != 0 ? errno : posix_fallocate(fd, 0, st.st_size);
    if (fd >= 0) {
        close(fd);
    }
    return rc == 0 ? BH_OK
                   : bh_fail(err, BH_E_UNAVAILABLE, "cannot reserve %s: %s", path, strerror(rc));
}

static enum bh_code
own_files(struct bh_snapshot_writer *writer, struct bh_error *err)
{
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char path[PATH_MAX + 16];
        snprintf(path, sizeof(path), "%s/%s", writer->path, files[i]);
        BH_TRY(bh_place_own(-1, path, err));
        if (i == 1) {
            BH_TRY(fill_lock_file(path, err));
        }
    }
    return BH_OK;
}

static enum bh_code
open_env(struct bh_snapshot_writer *writer, bool *ret_older, struct bh_error *err)
{
    *ret_older = false;
    BH_TRY(bh_env_new(&writer->env, writer->path, err));
    /* NOMETASYNC: a power cut may undo the last commits, never tear one; the feed repeats them. */
    int rc = mdb_env_open(writer->env, writer->path, MDB_NOTLS | MDB_NOMETASYNC, 0600);
    if (rc != 0) {
        return bh_mdb_fail(err, rc, "open", writer->path);
    }
    BH_TRY(own_files(writer, err));
    return make_tables(writer, ret_older, err);
}

/* Readers of the old file see that it was replaced, and open the new one where they know its
 * format. */
static enum bh_code
begin_anew(struct bh_snapshot_writer *writer, struct bh_error *err)
{
    bool older;
    mdb_env_close(writer->env);
    writer->env = NULL;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char path[PATH_MAX + 16];
        snprintf(path, sizeof(path), "%s/%s", writer->path, files[i]);
        if (unlink(path) != 0 && errno != ENOENT) {
            return bh_fail(err, BH_E_CONFIG, "cannot remove %s: %s", path, strerror(errno));
        }
    }
    return open_env(writer, &older, err);
}

static enum bh_code
open_place(struct bh_snapshot_writer *writer, struct bh_error *err)
{
    bool older;
    BH_TRY(make_directory(writer->path, err));
    BH_TRY(take_lock(writer, err));
    enum bh_code code = open_env(writer, &older, err);
    return code != BH_OK && older ? begin_anew(writer, err) : code;
}

enum bh_code
bh_writer_open_sized(
    const char *path, size_t reserve, struct bh_snapshot_writer **ret_writer, struct bh_error *err)
{
    struct bh_snapshot_writer *writer = calloc(1, sizeof(*writer));
    if (writer == NULL) {
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for the snapshot writer");
    }
    writer->lock = -1;
    writer->reserve = reserve;
    int len = snprintf(writer->path, sizeof(writer->path), "%s", path);
    enum bh_code code = (size_t)len >= sizeof(writer->path)
                            ? bh_fail(err, BH_E_CONFIG, "path too long: %s", path)
                            : open_place(writer, err);
    if (code != BH_OK) {
        bh_writer_close(writer);
        return code;
    }
    *ret_writer = writer;
    return BH_OK;
}

enum bh_code
bh_writer_open(const char *path, struct bh_snapshot_writer **ret_writer, struct bh_error *err)
{
    return bh_writer_open_sized(path, RESERVE, ret_writer, err);
}

void
bh_writer_close(struct bh_snapshot_writer *writer)
{
    if (writer == NULL) {
        return;
    }
    bh_writer_abort(writer);
    if (writer->env != NULL) {
        mdb_env_close(writer->env);
    }
    if (writer->lock >= 0) {
        close(writer->lock);
    }
    free(writer);
}

enum bh_code
bh_writer_reader(
    struct bh_snapshot_writer *writer, struct bh_snapshot **ret_snapshot, struct bh_error *err)
{
    return bh_snapshot_on(writer->env, writer->path, ret_snapshot, err);
}

/* The map can only be changed between transactions: make room for the next one ahead. */
static int
grow(struct bh_snapshot_writer *writer)
{
    MDB_envinfo info;
    MDB_stat st;
    int rc = mdb_env_info(writer->env, &info);
    rc = rc == 0 ? mdb_env_stat(writer->env, &st) : rc;
    if (rc != 0) {
        return rc;
    }
    size_t used = (info.me_last_pgno + 1) * st.ms_psize;
    if (info.me_mapsize >= used + writer->reserve) {
        return 0;
    }
    size_t want = used + 2 * writer->reserve;
    return mdb_env_set_mapsize(writer->env, want - want % 65536);
}

enum bh_code
bh_writer_begin(struct bh_snapshot_writer *writer, struct bh_error *err)
{
    if (writer->txn != NULL) {
        return bh_fail(err, BH_E_INTERNAL, "the snapshot is in a transaction already");
    }
    /* A killed reader would pin old pages and let the file grow. */
    int rc = mdb_reader_check(writer->env, NULL);
    rc = rc == 0 ? grow(writer) : rc;
    rc = rc == 0 ? mdb_txn_begin(writer->env, NULL, 0, &writer->txn) : rc;
    if (rc != 0) {
        writer->txn = NULL;
        return bh_mdb_fail(err, rc, "write", writer->path);
    }
    writer->failed = false;
    return BH_OK;
}

static enum bh_code
check_open(struct bh_snapshot_writer *writer, struct bh_error *err)
{
    if (writer->txn == NULL || writer->failed) {
        return bh_fail(err, BH_E_INTERNAL, "the snapshot is in no usable transaction");
    }
    return BH_OK;
}

static int
put(struct bh_snapshot_writer *writer, enum bh_table table, MDB_val key, MDB_val value)
{
    return mdb_put(writer->txn, writer->tables[table], &key, &value, 0);
}

static int
get(struct bh_snapshot_writer *writer, enum bh_table table, MDB_val key, MDB_val *ret_value)
{
    return mdb_get(writer->txn, writer->tables[table], &key, ret_value);
}

static int
del(struct bh_snapshot_writer *writer, enum bh_table table, MDB_val key)
{
    int rc = mdb_del(writer->txn, writer->tables[table], &key, NULL);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int
record_of(struct bh_snapshot_writer *writer, MDB_val id, struct bh_record *ret_record)
{
    MDB_val value;
    int rc = get(writer, BH_TABLE_TENANT, id, &value);
    if (rc == 0 && value.mv_size != sizeof(*ret_record)) {
        rc = MDB_CORRUPTED;
    }
    if (rc == 0) {
        memcpy(ret_record, value.mv_data, sizeof(*ret_record));
    }
    return rc;
}

/* Forget tenant ${no}, unless a newer version of it is stored (then *ret_newer). */
static int
forget(struct bh_snapshot_writer *writer, int32_t no, uint32_t version, bool *ret_newer)
{
    uint8_t bytes[4];
    bh_be32((uint32_t)no, bytes);
    MDB_val number = {sizeof(bytes), bytes};
    MDB_val value;
    *ret_newer = false;
    int rc = get(writer, BH_TABLE_NUMBER, number, &value);
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? 0 : rc;
    }
    /* LMDB's values die with the next write. */
    char id[BH_TENANT_ID_MAX];
    size_t id_len = value.mv_size < sizeof(id) ? value.mv_size : sizeof(id);
    memcpy(id, value.mv_data, id_len);
    struct bh_record record;
    rc = record_of(writer, (MDB_val){id_len, id}, &record);
    if (rc == 0 && record.no == no) {
        if (record.version > version) {
            *ret_newer = true;
            return 0;
        }
        rc = del(writer, BH_TABLE_TENANT, (MDB_val){id_len, id});
    }
    if (rc != 0 && rc != MDB_NOTFOUND) {
        return rc;
    }
    rc = bh_domains_forget(writer->txn, writer->tables, no);
    return rc == 0 ? del(writer, BH_TABLE_NUMBER, number) : rc;
}

/* Another tenant that had this id before loses its number. */
static int
evict(struct bh_snapshot_writer *writer, MDB_val id)
{
    struct bh_record other;
    int rc = record_of(writer, id, &other);
    if (rc != 0) {
        return rc == MDB_NOTFOUND ? 0 : rc;
    }
    uint8_t bytes[4];
    bh_be32((uint32_t)other.no, bytes);
    rc = bh_domains_forget(writer->txn, writer->tables, other.no);
    return rc == 0 ? del(writer, BH_TABLE_NUMBER, (MDB_val){sizeof(bytes), bytes}) : rc;
}

static int
store(struct bh_snapshot_writer *writer, const struct bh_tenant_facts *facts)
{
    struct bh_record record = {
        .uid = facts->uid,
        .version = facts->version,
        .no = facts->no,
        .epoch = facts->epoch,
        .rate = facts->rate,
        .burst = facts->burst,
        .share = (uint16_t)facts->share,
        .state = (uint8_t)facts->state,
    };
    int rc = 0;
    for (int i = 0; i < BH_NAME_KIND_COUNT && rc == 0; i++) {
        rc = bh_name_intern(
            writer->txn, writer->tables, (enum bh_name_kind)i, facts->names[i], &record.names[i]);
    }
    MDB_val id = {facts->id.len, (void *)(uintptr_t)facts->id.data};
    rc = rc == 0 ? evict(writer, id) : rc;
    rc = rc == 0 ? put(writer, BH_TABLE_TENANT, id, (MDB_val){sizeof(record), &record}) : rc;
    uint8_t bytes[4];
    bh_be32((uint32_t)facts->no, bytes);
    rc = rc == 0 ? put(writer, BH_TABLE_NUMBER, (MDB_val){sizeof(bytes), bytes}, id) : rc;
    return rc == 0 ? bh_domains_put(writer->txn, writer->tables, facts) : rc;
}

enum bh_code
bh_writer_put(
    struct bh_snapshot_writer *writer, const struct bh_tenant_facts *facts, struct bh_error *err)
{
    BH_TRY(check_open(writer, err));
    if (facts->no < 1 || facts->share > UINT16_MAX || facts->id.len > BH_TENANT_ID_MAX ||
        facts->id.len == 0) {
        return bh_fail(err, BH_E_INVALID, "tenant %d: no, share or id out of range", facts->no);
    }
    bool newer;
    int rc = forget(writer, facts->no, facts->version, &newer);
    if (rc == 0 && !newer) {
        rc = store(writer, facts);
    }
    return rc == 0 ? BH_OK : broke(writer, rc, err);
}

enum bh_code
bh_writer_remove(
    struct bh_snapshot_writer *writer, int32_t no, uint32_t version, struct bh_error *err)
{
    BH_TRY(check_open(writer, err));
    bool newer;
    int rc = forget(writer, no, version, &newer);
    return rc == 0 ? BH_OK : broke(writer, rc, err);
}

enum bh_code
bh_writer_document(struct bh_snapshot_writer *writer, struct bh_str name, uint64_t version,
    struct bh_str body, struct bh_error *err)
{
    BH_TRY(check_open(writer, err));
    if (name.len == 0 || name.len > BH_DOCUMENT_NAME_MAX || body.len > BH_DOCUMENT_MAX) {
        return bh_fail(err, BH_E_INVALID, "a document's name or body is too long");
    }
    int rc = bh_document_put(
        writer->txn, writer->tables[BH_TABLE_DOCUMENT], name, &(struct bh_document){version, body});
    return rc == 0 ? BH_OK : broke(writer, rc, err);
}

enum bh_code
bh_writer_clear(struct bh_snapshot_writer *writer, struct bh_error *err)
{
    static const enum bh_table cleared[] = {
        BH_TABLE_TENANT, BH_TABLE_NUMBER, BH_TABLE_DOCUMENT, BH_TABLE_DOMAIN, BH_TABLE_DOMAINS};
    BH_TRY(check_open(writer, err));
    int rc = 0;
    for (size_t i = 0; i < sizeof(cleared) / sizeof(cleared[0]) && rc == 0; i++) {
        rc = mdb_drop(writer->txn, writer->tables[cleared[i]], 0);
    }
    return rc == 0 ? BH_OK : broke(writer, rc, err);
}

enum bh_code
bh_writer_meta(
    struct bh_snapshot_writer *writer, const struct bh_snapshot_meta *meta, struct bh_error *err)
{
    BH_TRY(check_open(writer, err));
    MDB_val key = {strlen(BH_META_STATE), (void *)(uintptr_t)BH_META_STATE};
    MDB_val value = {sizeof(*meta), (void *)(uintptr_t)meta};
    int rc = put(writer, BH_TABLE_META, key, value);
    return rc == 0 ? BH_OK : broke(writer, rc, err);
}

enum bh_code
bh_writer_commit(struct bh_snapshot_writer *writer, struct bh_error *err)
{
    BH_TRY(check_open(writer, err));
    int rc = mdb_txn_commit(writer->txn);
    writer->txn = NULL;
    return rc == 0 ? BH_OK : bh_mdb_fail(err, rc, "commit to", writer->path);
}

void
bh_writer_abort(struct bh_snapshot_writer *writer)
{
    mdb_txn_abort(writer->txn);
    writer->txn = NULL;
}

enum bh_code
bh_writer_meta_get(
    struct bh_snapshot_writer *writer, struct bh_snapshot_meta *ret_meta, struct bh_error *err)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(writer->env, NULL, MDB_RDONLY, &txn);
    if (rc != 0) {
        return bh_mdb_fail(err, rc, "read", writer->path);
    }
    MDB_val key = {strlen(BH_META_STATE), (void *)(uintptr_t)BH_META_STATE};
    MDB_val value;
    memset(ret_meta, 0, sizeof(*ret_meta));
    rc = mdb_get(txn, writer->tables[BH_TABLE_META], &key, &value);
    if (rc == 0 && value.mv_size == sizeof(*ret_meta)) {
        memcpy(ret_meta, value.mv_data, sizeof(*ret_meta));
    }
    mdb_txn_abort(txn);
    return rc == 0 || rc == MDB_NOTFOUND ? BH_OK : bh_mdb_fail(err, rc, "read", writer->path);
}

/* A process that nobody has waited for yet is dead too: it maps nothing. */
static bool
is_dead(pid_t pid)
{
    char path[64];
    char text[512];
    snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT && kill(pid, 0) != 0 && errno == ESRCH;
    }
    ssize_t len = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[len > 0 ? len : 0] = '\0';
    const char *name_end = strrchr(text, ')'); /* the name may hold anything */
    return name_end != NULL && name_end[1] == ' ' && (name_end[2] == 'Z' || name_end[2] == 'X');
}

/* LMDB tells readers as text: a heading, then lines of pid, thread and transaction. */
static int
count_reader(const char *line, void *arg)
{
    struct bh_snapshot_room *room = arg;
    char *end;
    long pid = strtol(line, &end, 10);
    if (end != line && pid > 0) {
        room->readers++;
        room->stale += is_dead((pid_t)pid);
    }
    return 0;
}

enum bh_code
bh_writer_room(
    struct bh_snapshot_writer *writer, struct bh_snapshot_room *ret_room, struct bh_error *err)
{
    struct bh_snapshot_room room = {0};
    MDB_envinfo info;
    MDB_stat stat;
    int rc = mdb_env_info(writer->env, &info);
    if (rc == 0) {
        rc = mdb_env_stat(writer->env, &stat);
    }
    if (rc != 0 || mdb_reader_list(writer->env, count_reader, &room) < 0) {
        return bh_mdb_fail(err, rc, "look at", writer->path);
    }
    room.readers_max = info.me_maxreaders;
    room.bytes = (uint64_t)(info.me_last_pgno + 1) * stat.ms_psize;
    room.map_bytes = info.me_mapsize;
    *ret_room = room;
    return BH_OK;
}
