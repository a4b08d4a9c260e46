/*
 * Shared memory: all of struct shared but `head` is written under `mutex`; head, and
 * the seq of each slot, are also read without it.  A slot's seq is 0 while its entry
 * is written, and the head moves last: what lies at or below it is complete.
 */
#include "postgres.h"

#include <time.h>

#include "port/atomics.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/timestamp.h"

#include "core/bucket.h"
#include "data/ring.h"
#include "data/settings.h"

#define BUCKETS 4096
#define PROBES 16
#define LOG_BURST 1000

struct slot {
    pg_atomic_uint64 seq;
    struct bh_ring_entry entry;
};

/* How fast one actor may add entries.  Free for another once it is full and nothing is owed. */
struct bucket {
    uint64 actor;
    uint64 tat_ns;
    uint64 suppressed; /* since the actor's last entry */
};

struct shared {
    slock_t mutex;
    int64 epoch;
    uint64 suppressed;
    pg_atomic_uint64 head;
    struct bucket buckets[BUCKETS + 1]; /* the last is for all that find no other */
    struct slot slots[FLEXIBLE_ARRAY_MEMBER];
};

static struct shared *shared;

static Size
shared_size(void)
{
    return add_size(
        offsetof(struct shared, slots), mul_size((Size)bh_audit_entries, sizeof(struct slot)));
}

void
bh_ring_request(void)
{
    RequestAddinShmemSpace(shared_size());
}

void
bh_ring_startup(void)
{
    bool found;

    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    shared = ShmemInitStruct("bulkhead audit ring", shared_size(), &found);
    if (!found) {
        memset(shared, 0, offsetof(struct shared, slots));
        SpinLockInit(&shared->mutex);
        pg_atomic_init_u64(&shared->head, 0);
        shared->epoch = GetCurrentTimestamp() +
                        ((int64)POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
        for (int i = 0; i < bh_audit_entries; i++)
            pg_atomic_init_u64(&shared->slots[i].seq, 0);
    }
    LWLockRelease(AddinShmemInitLock);
}

/* ---- the rate limit ---- */

static uint64
clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64)now.tv_sec * 1000000000 + (uint64)now.tv_nsec;
}

/* Under the mutex. His own bucket, or one that nobody needs, or the last. */
static struct bucket *
find_bucket(uint64 actor, uint64 now_ns)
{
    uint64 start = actor * UINT64CONST(0x9E3779B97F4A7C15) >> 32;
    struct bucket *unused = &shared->buckets[BUCKETS];

    for (uint64 i = 0; i < PROBES; i++) {
        struct bucket *it = &shared->buckets[(start + i) % BUCKETS];

        if (it->actor == actor)
            return it;
        if (unused == &shared->buckets[BUCKETS] && it->suppressed == 0 && it->tat_ns <= now_ns)
            unused = it;
    }
    if (unused->actor != actor && unused != &shared->buckets[BUCKETS])
        *unused = (struct bucket){.actor = actor};
    return unused;
}

/* Each actor has a bucket for each limit. */
static uint64
bucket_key(enum bh_ring_limit limit, uint64 actor)
{
    return limit == BH_RING_LOG ? actor ^ UINT64CONST(1) << 62 : actor;
}

/* Under the mutex. */
static void
count_suppressed(enum bh_ring_limit limit, struct bucket *bucket)
{
    bucket->suppressed++;
    if (limit == BH_RING_AUDIT)
        shared->suppressed++;
}

bool
bh_ring_admit(enum bh_ring_limit limit, uint64 actor, uint64 *ret_suppressed)
{
    uint64 now_ns = clock_ns();
    uint32 rate = (uint32)(limit == BH_RING_LOG ? bh_log_rate : bh_audit_rate);
    uint32 burst = (uint32)(limit == BH_RING_LOG ? LOG_BURST : bh_audit_burst);
    struct bh_bucket_answer answer;
    struct bucket *bucket;

    SpinLockAcquire(&shared->mutex);
    bucket = find_bucket(bucket_key(limit, actor), now_ns);
    answer = bh_bucket_take(bucket->tat_ns, rate, burst, now_ns);
    bucket->tat_ns = answer.tat_ns;
    if (answer.allowed) {
        *ret_suppressed = bucket->suppressed;
        bucket->suppressed = 0;
    } else {
        count_suppressed(limit, bucket);
    }
    SpinLockRelease(&shared->mutex);
    return answer.allowed;
}

void
bh_ring_refuse(enum bh_ring_limit limit, uint64 actor)
{
    uint64 now_ns = clock_ns();

    SpinLockAcquire(&shared->mutex);
    count_suppressed(limit, find_bucket(bucket_key(limit, actor), now_ns));
    SpinLockRelease(&shared->mutex);
}

/* ---- entries ---- */

static struct slot *
slot_of(uint64 seq)
{
    return &shared->slots[(seq - 1) % (uint64)bh_audit_entries];
}

void
bh_ring_add(const struct bh_ring_entry *entry)
{
    struct slot *slot;
    uint64 seq;

    SpinLockAcquire(&shared->mutex);
    seq = pg_atomic_read_u64(&shared->head) + 1;
    slot = slot_of(seq);
    pg_atomic_write_u64(&slot->seq, 0);
    pg_write_barrier();
    slot->entry = *entry;
    pg_write_barrier();
    pg_atomic_write_u64(&slot->seq, seq);
    pg_write_barrier();
    pg_atomic_write_u64(&shared->head, seq);
    SpinLockRelease(&shared->mutex);
}

void
bh_ring_look(struct bh_ring_state *ret_state)
{
    uint64 size = (uint64)bh_audit_entries;
    uint64 head;

    SpinLockAcquire(&shared->mutex);
    head = pg_atomic_read_u64(&shared->head);
    ret_state->suppressed = shared->suppressed;
    SpinLockRelease(&shared->mutex);
    ret_state->epoch = shared->epoch;
    ret_state->head = head;
    ret_state->oldest = head > size ? head - size + 1 : 1;
}

bool
bh_ring_read(uint64 seq, struct bh_ring_entry *ret_entry)
{
    struct slot *slot = slot_of(seq);

    if (pg_atomic_read_u64(&slot->seq) != seq)
        return false;
    pg_read_barrier();
    *ret_entry = slot->entry;
    pg_read_barrier();
    return pg_atomic_read_u64(&slot->seq) == seq;
}
