/*
 * The counters of the edge: one 256-byte slot per tenant in a file that nginx
 * workers and the agent map together (snapshot/counters.h maps it).
 *
 * Every field that two processes touch is atomic; nothing is locked.  A slot
 * is claimed once by compare-and-swap on `no` and never reassigned within a
 * file epoch, so a reader may take its values at any moment.  Values only
 * grow; who reads takes differences.
 */
#ifndef BH_CORE_METER_H
#define BH_CORE_METER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* First the edge's, which lie in the counters file in this order, then the database's. */
enum bh_meter {
#define BH_METER(name, slug, unit, description) BH_METER_##name,
#include "core/tbl/meters.def"
#undef BH_METER
    BH_METER_EDGE_COUNT,
    BH_METER_EDGE_LAST = BH_METER_EDGE_COUNT - 1, /* so that the next one has the number of COUNT */
#define BH_DATABASE_METER(name, slug, unit, description) BH_METER_##name,
#include "core/tbl/meters.def"
#undef BH_DATABASE_METER
    BH_METER_COUNT
};
#define BH_METER_DATABASE_COUNT (BH_METER_COUNT - BH_METER_EDGE_COUNT)

#define BH_COUNTERS_MAGIC UINT64_C(0x6268636f756e7431) /* "bhcount1" */
#define BH_COUNTERS_VERSION 1

/*
 * How long requests took: bucket i has those of at most 512 µs · 2^i (and more
 * than the bucket below), the last one all others.
 */
#define BH_LATENCY_BUCKETS 16
#define BH_LATENCY_FIRST_US 512

struct bh_slot {
    _Atomic uint32_t no; /* 0: free */
    uint32_t reserved;
    _Atomic uint64_t tat_ns; /* state of the rate limit, core/bucket.h */
    _Atomic uint64_t meters[BH_METER_EDGE_COUNT];
    _Atomic uint64_t latency[BH_LATENCY_BUCKETS]; /* requests */
    uint8_t room[256 - 16 - 8 * BH_METER_EDGE_COUNT - 8 * BH_LATENCY_BUCKETS];
};
_Static_assert(sizeof(struct bh_slot) == 256, "a slot is four cache lines");

struct bh_counters {
    uint64_t magic;
    uint32_t version;
    uint32_t slot_bytes;
    uint32_t capacity;
    uint32_t reserved;
    uint64_t file_epoch; /* differs for each file that ever was */
    uint8_t room[256 - 32];
    struct bh_slot slots[];
};

/** bh_meter_slug(meter) → "requests"; bh_meter_unit(meter) → "requests";
 * bh_meter_description(meter) → what it counts; bh_meter_find(slug) → the meter, or BH_METER_COUNT.
 */
const char *bh_meter_slug(enum bh_meter meter);
const char *bh_meter_unit(enum bh_meter meter);
const char *bh_meter_description(enum bh_meter meter);
enum bh_meter bh_meter_find(const char *slug);

/**
 * bh_slot_claim(counters, no):
 * Return the slot of tenant ${no} ≥ 1, claiming a free one where it has none;
 * NULL where the file is full.  Slots start at ${no} modulo capacity, so that
 * tenants with neighbouring numbers share pages.
 */
struct bh_slot *bh_slot_claim(struct bh_counters *counters, int32_t no);

/** bh_slot_find(counters, no): the slot of tenant ${no}, claiming none; NULL where it has none. */
struct bh_slot *bh_slot_find(struct bh_counters *counters, int32_t no);

/** bh_slot_ahead(slot): have the processor fetch it (NULL is fine): it will be written. */
static inline void
bh_slot_ahead(const struct bh_slot *slot)
{
    for (unsigned i = 0; slot != NULL && i < sizeof(*slot); i += 64)
        __builtin_prefetch((const char *)slot + i, 1);
}

/** bh_slot_add(slot, meter, amount): count a meter of the edge; relaxed order, lock-free. */
void bh_slot_add(struct bh_slot *slot, enum bh_meter meter, uint64_t amount);

/** bh_slot_took(slot, us): a request took ${us}: count it in its bucket and add it to LATENCY_US.
 */
void bh_slot_took(struct bh_slot *slot, uint64_t us);

/** bh_latency_bucket(us) → the bucket of a request that took ${us};
 * bh_latency_bound_us(bucket) → the most that one of ${bucket} took; UINT64_MAX for the last.
 */
unsigned bh_latency_bucket(uint64_t us);
uint64_t bh_latency_bound_us(unsigned bucket);

#endif
