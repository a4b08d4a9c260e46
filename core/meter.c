#include "core/meter.h"

#include <stddef.h>
#include <string.h>

static const struct {
    const char *slug;
    const char *unit;
    const char *description;
} meters[BH_METER_COUNT] = {
#define BH_METER(name, slug, unit, description) [BH_METER_##name] = {slug, unit, description},
#define BH_DATABASE_METER BH_METER
#include "core/tbl/meters.def"
#undef BH_DATABASE_METER
#undef BH_METER
};

const char *
bh_meter_slug(enum bh_meter meter)
{
    return (unsigned)meter < BH_METER_COUNT ? meters[meter].slug : "";
}

const char *
bh_meter_unit(enum bh_meter meter)
{
    return (unsigned)meter < BH_METER_COUNT ? meters[meter].unit : "";
}

const char *
bh_meter_description(enum bh_meter meter)
{
    return (unsigned)meter < BH_METER_COUNT ? meters[meter].description : "";
}

enum bh_meter
bh_meter_find(const char *slug)
{
    unsigned meter = 0;
    while (meter < BH_METER_COUNT && strcmp(meters[meter].slug, slug) != 0)
        meter++;
    return (enum bh_meter)meter;
}

/* The slot of ${no}, or the free one where it belongs; NULL where there is neither. */
static struct bh_slot *
next_slot(struct bh_counters *counters, uint32_t no, uint32_t *ret_owner, uint32_t *tries)
{
    for (; *tries < counters->capacity; ++*tries) {
        struct bh_slot *slot = &counters->slots[(no + *tries) % counters->capacity];
        *ret_owner = atomic_load_explicit(&slot->no, memory_order_relaxed);
        if (*ret_owner == 0 || *ret_owner == no)
            return slot;
    }
    return NULL;
}

struct bh_slot *
bh_slot_find(struct bh_counters *counters, int32_t no)
{
    uint32_t owner = 0, tries = 0;
    struct bh_slot *slot = no < 1 ? NULL : next_slot(counters, (uint32_t)no, &owner, &tries);
    return owner == 0 ? NULL : slot;
}

struct bh_slot *
bh_slot_claim(struct bh_counters *counters, int32_t no)
{
    uint32_t owner, tries = 0;
    struct bh_slot *slot;
    if (no < 1)
        return NULL;
    while ((slot = next_slot(counters, (uint32_t)no, &owner, &tries)) != NULL) {
        if (owner == (uint32_t)no ||
            atomic_compare_exchange_strong_explicit(
                &slot->no, &owner, (uint32_t)no, memory_order_relaxed, memory_order_relaxed) ||
            owner == (uint32_t)no)
            return slot;
    }
    return NULL;
}

void
bh_slot_add(struct bh_slot *slot, enum bh_meter meter, uint64_t amount)
{
    if ((unsigned)meter < BH_METER_EDGE_COUNT)
        atomic_fetch_add_explicit(&slot->meters[meter], amount, memory_order_relaxed);
}

unsigned
bh_latency_bucket(uint64_t us)
{
    unsigned bucket = 0;
    while (bucket < BH_LATENCY_BUCKETS - 1 && us > bh_latency_bound_us(bucket))
        bucket++;
    return bucket;
}

uint64_t
bh_latency_bound_us(unsigned bucket)
{
    return bucket < BH_LATENCY_BUCKETS - 1 ? (uint64_t)BH_LATENCY_FIRST_US << bucket : UINT64_MAX;
}

void
bh_slot_took(struct bh_slot *slot, uint64_t us)
{
    atomic_fetch_add_explicit(&slot->latency[bh_latency_bucket(us)], 1, memory_order_relaxed);
    bh_slot_add(slot, BH_METER_LATENCY_US, us);
}
