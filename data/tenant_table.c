#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "data/compat.h"
#include "data/settings.h"
#include "data/tenant_table.h"

struct key {
    Oid database;
    int32 no;
};

struct entry {
    struct key key; /* first: the hash key */
    struct bh_tenant_row row;
};

struct shared {
    LWLock *lock;
    uint32 pending; /* writers between PRE_COMMIT and the end of their commit; under the lock */
    pg_atomic_uint64 generation;
};

/* What this transaction changed; no = 0 means every tenant of the database. */
struct dirty {
    struct key *items; /* in TopTransactionContext */
    int count;
    int size;
    bool announced; /* counted in shared->pending */
};

static struct shared *shared;
static HTAB *cache;
static struct dirty dirty;
static int max_entries;

/* ---- shared memory ---- */

void
bh_tenant_table_request(void)
{
    RequestAddinShmemSpace(add_size(
        MAXALIGN(sizeof(struct shared)), hash_estimate_size(bh_max_tenants, sizeof(struct entry))));
    RequestNamedLWLockTranche("bulkhead", 1);
}

void
bh_tenant_table_startup(void)
{
    HASHCTL control = {.keysize = sizeof(struct key), .entrysize = sizeof(struct entry)};
    bool found;

    max_entries = bh_max_tenants;
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    shared = ShmemInitStruct("bulkhead tenants", sizeof(struct shared), &found);
    if (!found) {
        shared->lock = &GetNamedLWLockTranche("bulkhead")->lock;
        shared->pending = 0;
        pg_atomic_init_u64(&shared->generation, 1);
    }
    cache = ShmemInitHash(
        "bulkhead tenant cache", max_entries, max_entries, &control, HASH_ELEM | HASH_BLOBS);
    LWLockRelease(AddinShmemInitLock);
}

uint64
bh_tenant_table_generation(void)
{
    return pg_atomic_read_u64(&shared->generation);
}

/* ---- reading ---- */

enum column {
    COL_NO = 1,
    COL_ID,
    COL_MODE,
    COL_ROLE,
    COL_SCHEMA,
    COL_STATE,
    COL_EPOCH,
    COL_LIMITS,
    COL_COUNT
};

static const char *const column_names[] = {[COL_NO] = "no",
    [COL_ID] = "id",
    [COL_MODE] = "mode",
    [COL_ROLE] = "role",
    [COL_SCHEMA] = "schema",
    [COL_STATE] = "state",
    [COL_EPOCH] = "epoch",
    [COL_LIMITS] = "limits"};
static const Oid column_types[] = {[COL_NO] = INT4OID,
    [COL_ID] = TEXTOID,
    [COL_MODE] = TEXTOID,
    [COL_ROLE] = NAMEOID,
    [COL_SCHEMA] = NAMEOID,
    [COL_STATE] = TEXTOID,
    [COL_EPOCH] = INT4OID,
    [COL_LIMITS] = JSONBOID};

static void
bad_table(const char *what)
{
    ereport(ERROR,
        (errcode(ERRCODE_CONFIG_FILE_ERROR), errmsg("bulkhead.tenant cannot be used: %s", what),
            errhint("Create the extension in this database again.")));
}

static Oid
own_relation(const char *name)
{
    Oid schema = get_namespace_oid("bulkhead", true);

    return OidIsValid(schema) ? get_relname_relid(name, schema) : InvalidOid;
}

static Oid
table_oid(void)
{
    return own_relation("tenant");
}

/* The table is made by the extension's script: a change of its first columns is an error, not a
 * guess. */
static void
check_columns(TupleDesc desc)
{
    if (desc->natts < COL_COUNT - 1)
        bad_table("columns are missing");
    for (int i = COL_NO; i < COL_COUNT; i++) {
        Form_pg_attribute att = TupleDescAttr(desc, i - 1);

        if (att->attisdropped || att->atttypid != column_types[i] ||
            strcmp(NameStr(att->attname), column_names[i]) != 0)
            bad_table("a column is not as the extension made it");
    }
}

static Datum
column(HeapTuple tuple, TupleDesc desc, enum column which)
{
    bool isnull;
    Datum value = heap_getattr(tuple, (int)which, desc, &isnull);

    if (isnull)
        bad_table("a column is NULL");
    return value;
}

static enum bh_mode
find_mode(const char *name)
{
    static const char *const names[] = {[BH_MODE_ROW] = "row",
        [BH_MODE_SCHEMA] = "schema",
        [BH_MODE_DATABASE] = "database",
        [BH_MODE_INSTANCE] = "instance"};

    for (size_t i = BH_MODE_ROW; i < lengthof(names); i++)
        if (strcmp(name, names[i]) == 0)
            return (enum bh_mode)i;
    bad_table("a mode is unknown");
    return BH_MODE_NONE;
}

/* In a shared database pg_temp comes last, or a temporary table could stand before the tenant's
 * own; in its own database it comes first, as everywhere. */
static void
make_path(const char *schema, struct bh_tenant_row *row)
{
    snprintf(row->search_path, sizeof(row->search_path), "%s, %s", quote_identifier(schema),
        bh_mode_own(row->mode) ? "public" : "pg_temp");
}

static void
take_row(HeapTuple tuple, TupleDesc desc, struct bh_tenant_row *row)
{
    char *id = TextDatumGetCString(column(tuple, desc, COL_ID));
    char *state = TextDatumGetCString(column(tuple, desc, COL_STATE));
    char *mode = TextDatumGetCString(column(tuple, desc, COL_MODE));
    Name role = DatumGetName(column(tuple, desc, COL_ROLE));
    Name schema = DatumGetName(column(tuple, desc, COL_SCHEMA));

    memset(row, 0, sizeof(*row));
    row->no = DatumGetInt32(column(tuple, desc, COL_NO));
    row->epoch = (uint32)DatumGetInt32(column(tuple, desc, COL_EPOCH));
    if (!bh_tenant_state_find(bh_str_of(state), &row->state))
        bad_table("a state is unknown");
    row->mode = find_mode(mode);
    if (strlcpy(row->id, id, sizeof(row->id)) >= sizeof(row->id))
        bad_table("an id is too long");
    namestrcpy(&row->role, NameStr(*role));
    bh_limits_parse(DatumGetJsonbP(column(tuple, desc, COL_LIMITS)), &row->limits);
    make_path(NameStr(*schema), row);
}

/*
 * By the primary key, under a snapshot of this moment: the transaction's own
 * may be older than a suspension.  The catalogue's snapshot is always new for a
 * table that no system cache holds, and leaves the transaction free to choose
 * its isolation level.
 */
static bool
read_table(int32 no, struct bh_tenant_row *row)
{
    Oid relid = table_oid();
    Relation table;
    SysScanDesc scan;
    ScanKeyData key;
    HeapTuple tuple;
    bool found;

    if (!OidIsValid(relid))
        bad_table("it does not exist");
    table = table_open(relid, AccessShareLock);
    check_columns(RelationGetDescr(table));
    ScanKeyInit(&key, COL_NO, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(no));
    scan = systable_beginscan(table, bh_compat_primary_key(table), true, NULL, 1, &key);
    tuple = systable_getnext(scan);
    found = HeapTupleIsValid(tuple);
    if (found)
        take_row(tuple, RelationGetDescr(table), row);
    systable_endscan(scan);
    table_close(table, AccessShareLock);
    return found;
}

/* ---- logins ---- */

struct lookup {
    const char *table;
    const char *index;
    int role; /* column with the login, the first of ${index} */
    int no;
};

static const struct lookup listed = {"login", "login_pkey", 1, 2};
static const struct lookup named = {"tenant", "tenant_role", COL_ROLE, COL_NO};

/* Of the rows for ${role} the one that says whose own it is; of two in bulkhead.tenant none does.
 */
static int32
one_owner(SysScanDesc scan, TupleDesc desc, const struct lookup *in)
{
    HeapTuple tuple;
    int32 no = 0;
    int rows = 0;

    while (HeapTupleIsValid(tuple = systable_getnext(scan))) {
        bool isnull;
        Datum mode = in == &named ? heap_getattr(tuple, COL_MODE, desc, &isnull) : (Datum)0;

        if (in == &named && strcmp(TextDatumGetCString(mode), "row") == 0)
            continue;
        no = DatumGetInt32(heap_getattr(tuple, in->no, desc, &isnull));
        rows++;
    }
    return rows == 1 ? no : 0;
}

static int32
find_owner(const struct lookup *in, const char *role)
{
    Oid relid = own_relation(in->table);
    Oid index = own_relation(in->index);
    NameData name;
    Relation table;
    ScanKeyData key;
    SysScanDesc scan;
    int32 no;

    if (!OidIsValid(relid) || !OidIsValid(index))
        return 0;
    namestrcpy(&name, role);
    table = table_open(relid, AccessShareLock);
    ScanKeyInit(&key, (AttrNumber)in->role, BTEqualStrategyNumber, F_NAMEEQ, NameGetDatum(&name));
    scan = systable_beginscan(table, index, true, NULL, 1, &key);
    no = one_owner(scan, RelationGetDescr(table), in);
    systable_endscan(scan);
    table_close(table, AccessShareLock);
    return no;
}

int32
bh_tenant_table_login(const char *role)
{
    int32 no = find_owner(&listed, role);

    return no != 0 ? no : find_owner(&named, role);
}

/* Keep what was read, unless somebody changed something meanwhile. */
static void
keep(const struct key *key, const struct bh_tenant_row *row, uint64 generation)
{
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    if (shared->pending == 0 && pg_atomic_read_u64(&shared->generation) == generation &&
        hash_get_num_entries(cache) < max_entries) {
        bool found;
        struct entry *entry = hash_search(cache, key, HASH_ENTER_NULL, &found);

        if (entry != NULL)
            entry->row = *row;
    }
    LWLockRelease(shared->lock);
}

bool
bh_tenant_table_get(int32 no, struct bh_tenant_row *ret_row, uint64 *ret_generation)
{
    struct key key = {.database = MyDatabaseId, .no = no};
    struct entry *entry = NULL;
    /* A standby hears of changes by replay only, which invalidates nothing here;
     * and what this transaction changed itself is not committed yet. */
    bool direct = RecoveryInProgress() || dirty.count > 0;

    LWLockAcquire(shared->lock, LW_SHARED);
    *ret_generation = pg_atomic_read_u64(&shared->generation);
    direct = direct || shared->pending > 0;
    if (!direct)
        entry = hash_search(cache, &key, HASH_FIND, NULL);
    if (entry != NULL)
        *ret_row = entry->row;
    LWLockRelease(shared->lock);
    if (entry != NULL)
        return true;
    if (!read_table(no, ret_row))
        return false;
    if (!direct)
        keep(&key, ret_row, *ret_generation);
    return true;
}

/* ---- changing ---- */

static void
note(Oid database, int32 no)
{
    if (dirty.count > 0 && dirty.items[dirty.count - 1].no == no &&
        dirty.items[dirty.count - 1].database == database)
        return;
    if (dirty.count == dirty.size) {
        int size = dirty.size == 0 ? 16 : dirty.size * 2;

        if (dirty.items == NULL)
            dirty.items =
                MemoryContextAlloc(TopTransactionContext, (Size)size * sizeof(struct key));
        else
            dirty.items = repalloc_huge(dirty.items, (Size)size * sizeof(struct key));
        dirty.size = size;
    }
    dirty.items[dirty.count++] = (struct key){.database = database, .no = no};
}

static bool
is_ours(Oid relid)
{
    return relid == table_oid() || relid == own_relation("login");
}

void
bh_tenant_table_dropping(Oid classid, Oid objectid)
{
    if (classid == RelationRelationId && is_ours(objectid))
        note(MyDatabaseId, 0);
    if (classid == DatabaseRelationId)
        note(objectid, 0);
}

#pragma GCC visibility push(default)
PG_FUNCTION_INFO_V1(bh_tenant_changed);
#pragma GCC visibility pop

static int32
tuple_no(HeapTuple tuple, TupleDesc desc)
{
    bool isnull;
    Datum value = heap_getattr(tuple, COL_NO, desc, &isnull);

    return isnull ? 0 : DatumGetInt32(value);
}

static void
check_limits(HeapTuple tuple, TupleDesc desc)
{
    struct bh_limits ignored;

    bh_limits_parse(DatumGetJsonbP(column(tuple, desc, COL_LIMITS)), &ignored);
}

/* AFTER INSERT, UPDATE, DELETE for each row, and AFTER TRUNCATE, on bulkhead.tenant; after any
 * statement on bulkhead.login. */
Datum
bh_tenant_changed(PG_FUNCTION_ARGS)
{
    TriggerData *data = (TriggerData *)fcinfo->context;
    TupleDesc desc;

    if (!CALLED_AS_TRIGGER(fcinfo) || !is_ours(RelationGetRelid(data->tg_relation)))
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
                           errmsg("only bulkhead.tenant and bulkhead.login have this trigger")));
    if (RelationGetRelid(data->tg_relation) != table_oid()) {
        note(MyDatabaseId, 0);
        PG_RETURN_POINTER(NULL);
    }
    desc = RelationGetDescr(data->tg_relation);
    check_columns(desc);
    if (!TRIGGER_FIRED_FOR_ROW(data->tg_event)) {
        note(MyDatabaseId, 0);
    } else {
        note(MyDatabaseId, tuple_no(data->tg_trigtuple, desc));
        if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
            check_limits(data->tg_trigtuple, desc);
        if (TRIGGER_FIRED_BY_UPDATE(data->tg_event)) {
            note(MyDatabaseId, tuple_no(data->tg_newtuple, desc));
            check_limits(data->tg_newtuple, desc);
        }
    }
    PG_RETURN_POINTER(NULL);
}

/* ---- the ends of transactions ---- */

static void
announce(void)
{
    LWLockAcquire(shared->lock, LW_EXCLUSIVE);
    shared->pending++;
    LWLockRelease(shared->lock);
    dirty.announced = true;
}

static void
drop_database(Oid database)
{
    HASH_SEQ_STATUS scan;
    struct entry *entry;

    hash_seq_init(&scan, cache);
    while ((entry = hash_seq_search(&scan)) != NULL)
        if (entry->key.database == database)
            hash_search(cache, &entry->key, HASH_REMOVE, NULL);
}

/* Also right after an abort: then only the announcement is taken back. */
static void
settle(bool committed)
{
    if (dirty.announced) {
        LWLockAcquire(shared->lock, LW_EXCLUSIVE);
        for (int i = 0; committed && i < dirty.count; i++) {
            if (dirty.items[i].no == 0)
                drop_database(dirty.items[i].database);
            else
                hash_search(cache, &dirty.items[i], HASH_REMOVE, NULL);
        }
        if (committed)
            pg_atomic_fetch_add_u64(&shared->generation, 1);
        shared->pending--;
        LWLockRelease(shared->lock);
    }
    memset(&dirty, 0, sizeof(dirty));
}

static void
xact_ends(XactEvent event, void *arg pg_attribute_unused())
{
    if (dirty.count == 0)
        return;
    switch (event) {
    case XACT_EVENT_PRE_COMMIT:
        announce();
        break;
    case XACT_EVENT_PRE_PREPARE:
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                           errmsg("cannot prepare a transaction that changed bulkhead.tenant")));
        break;
    case XACT_EVENT_COMMIT:
        settle(true);
        break;
    case XACT_EVENT_ABORT:
        settle(false);
        break;
    case XACT_EVENT_PREPARE:
    case XACT_EVENT_PARALLEL_PRE_COMMIT:
    case XACT_EVENT_PARALLEL_COMMIT:
    case XACT_EVENT_PARALLEL_ABORT:
        break;
    }
}

void
bh_tenant_table_register(void)
{
    RegisterXactCallback(xact_ends, NULL);
}
