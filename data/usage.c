#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#include "data/clock.h"
#include "data/settings.h"
#include "data/usage.h"

#define HEAT_MOST 5
#define CHUNK 512 /* records that a reader takes at a time */

struct shared {
    uint64 epoch;
    LWLock *table;
    LWLock *file;
    int used; /* entries that have ever been used; under `table` */
    int hand; /* of the sweep; under `file` */
};

struct place {
    int32 no; /* first: the hash key */
    int index;
};

static struct shared *shared;
static struct bh_usage_entry *entries;
static HTAB *places;
static int capacity;

/* ---- shared memory ---- */

/* Each process pins one entry, and one must always be left to evict. */
static int
wanted_capacity(void)
{
    return Max(bh_usage_entries, MaxBackends + 16);
}

void
bh_usage_request(void)
{
    int count = wanted_capacity();

    RequestAddinShmemSpace(MAXALIGN(sizeof(struct shared)));
    RequestAddinShmemSpace(mul_size((Size)count, sizeof(struct bh_usage_entry)));
    RequestAddinShmemSpace(hash_estimate_size(count, sizeof(struct place)));
    RequestNamedLWLockTranche("bulkhead usage", 2);
}

static void
take(const struct bh_usage_entry *entry, struct bh_usage_record *ret_record)
{
    memset(ret_record, 0, sizeof(*ret_record));
    ret_record->no = entry->no;
    for (int i = 0; i < BH_USAGE_COUNT; i++)
        ret_record->values[i] =
            pg_atomic_read_u64(unconstify(pg_atomic_uint64 *, &entry->values[i]));
    ret_record->budget = entry->share.budget;
}

/* In the postmaster, when nobody else is left. */
static void
save_all(int code, Datum arg pg_attribute_unused())
{
    struct bh_usage_record record;

    if (code != 0 || shared == NULL)
        return; /* a crash: the next start begins a new epoch */
    for (int i = 0; i < shared->used; i++) {
        take(&entries[i], &record);
        if (record.no != 0)
            bh_usage_file_write(&record);
    }
    bh_usage_file_end(shared->epoch);
}

static void
begin(void)
{
    LWLockPadded *locks = GetNamedLWLockTranche("bulkhead usage");

    shared->table = &locks[0].lock;
    shared->file = &locks[1].lock;
    shared->used = 0;
    shared->hand = 0;
    for (int i = 0; i < capacity; i++) {
        memset(&entries[i], 0, sizeof(entries[i]));
        pg_atomic_init_u32(&entries[i].pins, 0);
        pg_atomic_init_u32(&entries[i].heat, 0);
        for (int meter = 0; meter < BH_USAGE_COUNT; meter++)
            pg_atomic_init_u64(&entries[i].values[meter], 0);
        bh_share_init(&entries[i].share);
    }
    shared->epoch = bh_usage_file_begin();
}

void
bh_usage_startup(void)
{
    HASHCTL control = {.keysize = sizeof(int32), .entrysize = sizeof(struct place)};
    bool found;

    capacity = wanted_capacity();
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    shared = ShmemInitStruct("bulkhead usage", sizeof(struct shared), &found);
    entries = ShmemInitStruct(
        "bulkhead usage entries", mul_size((Size)capacity, sizeof(struct bh_usage_entry)), &found);
    places = ShmemInitHash(
        "bulkhead usage places", capacity, capacity, &control, HASH_ELEM | HASH_BLOBS);
    if (!found)
        begin();
    LWLockRelease(AddinShmemInitLock);
    if (!IsUnderPostmaster)
        on_shmem_exit(save_all, (Datum)0);
}

uint64
bh_usage_epoch(void)
{
    return shared->epoch;
}

/* ---- finding, loading, evicting ---- */

static struct bh_usage_entry *
find_pinned(int32 no)
{
    struct bh_usage_entry *entry = NULL;
    struct place *place;

    LWLockAcquire(shared->table, LW_SHARED);
    place = hash_search(places, &no, HASH_FIND, NULL);
    if (place != NULL) {
        entry = &entries[place->index];
        pg_atomic_fetch_add_u32(&entry->pins, 1);
        if (pg_atomic_read_u32(&entry->heat) < HEAT_MOST)
            pg_atomic_fetch_add_u32(&entry->heat, 1);
    }
    LWLockRelease(shared->table);
    return entry;
}

/* The next entry that nobody pins and nobody pinned of late; each one passed cools down. */
static int
sweep(void)
{
    for (int64 steps = (int64)capacity * (HEAT_MOST + 2); steps > 0; steps--) {
        int index = shared->hand;
        struct bh_usage_entry *entry = &entries[index];

        shared->hand = (index + 1) % capacity;
        if (pg_atomic_read_u32(&entry->pins) != 0)
            continue;
        if (pg_atomic_read_u32(&entry->heat) == 0)
            return index;
        pg_atomic_fetch_sub_u32(&entry->heat, 1);
    }
    elog(ERROR, "every usage entry is pinned");
    return -1;
}

/* Is it still what was written, and free? */
static bool
unchanged(const struct bh_usage_entry *entry, const struct bh_usage_record *written)
{
    struct bh_usage_record now;

    take(entry, &now);
    return pg_atomic_read_u32(unconstify(pg_atomic_uint32 *, &entry->pins)) == 0 &&
           memcmp(&now, written, sizeof(now)) == 0;
}

/* Written before it leaves the table: a failing disk loses nothing.  Under the file lock. */
static int
evict(void)
{
    struct bh_usage_record record;

    for (;;) {
        int index;
        bool gone;

        index = sweep();
        take(&entries[index], &record);
        if (record.no == 0)
            return index; /* given back by an error before it was filled */
        bh_usage_file_write(&record);
        LWLockAcquire(shared->table, LW_EXCLUSIVE);
        gone = unchanged(&entries[index], &record);
        if (gone) {
            hash_search(places, &record.no, HASH_REMOVE, NULL);
            entries[index].no = 0;
        }
        LWLockRelease(shared->table);
        if (gone)
            return index;
    }
}

static int
free_entry(void)
{
    int index = -1;

    LWLockAcquire(shared->table, LW_EXCLUSIVE);
    if (shared->used < capacity)
        index = shared->used++;
    LWLockRelease(shared->table);
    return index >= 0 ? index : evict();
}

/* Under the file lock. */
static struct bh_usage_entry *
load(int32 no)
{
    struct bh_usage_record record;
    struct bh_usage_entry *entry;
    struct place *place;
    int index;

    bh_usage_file_read(no, 1, &record);
    index = free_entry();
    entry = &entries[index];
    for (int i = 0; i < BH_USAGE_COUNT; i++)
        pg_atomic_write_u64(&entry->values[i], record.values[i]);
    bh_share_load(&entry->share, &record.budget);
    pg_atomic_write_u32(&entry->heat, 1);
    pg_atomic_write_u32(&entry->pins, 1);
    LWLockAcquire(shared->table, LW_EXCLUSIVE);
    entry->no = no;
    place = hash_search(places, &no, HASH_ENTER, NULL);
    place->index = index;
    LWLockRelease(shared->table);
    return entry;
}

struct bh_usage_entry *
bh_usage_pin(int32 no)
{
    struct bh_usage_entry *entry = find_pinned(no);

    if (entry != NULL)
        return entry;
    LWLockAcquire(shared->file, LW_EXCLUSIVE);
    entry = find_pinned(no);
    if (entry == NULL)
        entry = load(no);
    LWLockRelease(shared->file);
    return entry;
}

void
bh_usage_unpin(struct bh_usage_entry *entry)
{
    pg_atomic_fetch_sub_u32(&entry->pins, 1);
}

/* ---- reading ---- */

/* Entries first: none is on its way to the file while the file lock is held. */
static HTAB *
see_entries(void (*see)(const struct bh_usage_record *, void *), void *arg)
{
    HASHCTL control = {
        .keysize = sizeof(int32), .entrysize = sizeof(int32), .hcxt = CurrentMemoryContext};
    HTAB *seen = hash_create(
        "bulkhead usage seen", capacity, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    struct bh_usage_record *records;
    int count = 0;

    records = MemoryContextAllocHuge(CurrentMemoryContext, (Size)capacity * sizeof(*records));
    LWLockAcquire(shared->file, LW_SHARED);
    LWLockAcquire(shared->table, LW_SHARED);
    for (int i = 0; i < shared->used; i++)
        if (entries[i].no != 0)
            take(&entries[i], &records[count++]);
    LWLockRelease(shared->table);
    LWLockRelease(shared->file);
    for (int i = 0; i < count; i++) {
        hash_search(seen, &records[i].no, HASH_ENTER, NULL);
        see(&records[i], arg);
    }
    pfree(records);
    return seen;
}

void
bh_usage_each(void (*see)(const struct bh_usage_record *record, void *arg), void *arg)
{
    HTAB *seen = see_entries(see, arg);
    struct bh_usage_record *records = palloc(CHUNK * sizeof(*records));

    for (int32 no = bh_usage_file_next(1); no > 0; no = bh_usage_file_next(no + CHUNK)) {
        int count = Min(CHUNK, PG_INT32_MAX - no);

        LWLockAcquire(shared->file, LW_SHARED);
        bh_usage_file_read(no, count, records);
        LWLockRelease(shared->file);
        for (int i = 0; i < count; i++)
            if (records[i].no != 0 && hash_search(seen, &records[i].no, HASH_FIND, NULL) == NULL)
                see(&records[i], arg);
        if (no > PG_INT32_MAX - 2 * CHUNK)
            break;
        CHECK_FOR_INTERRUPTS();
    }
    pfree(records);
    hash_destroy(seen);
}

void
bh_usage_each_share(void (*see)(int32 no, struct bh_share *share, void *arg), void *arg)
{
    LWLockAcquire(shared->table, LW_SHARED);
    for (int i = 0; i < shared->used; i++)
        if (entries[i].no != 0)
            see(entries[i].no, &entries[i].share, arg);
    LWLockRelease(shared->table);
}
