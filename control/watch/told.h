/*
 * What of a server's counters has been booked already, so that only what grew
 * is told again.  Forgetting it is harmless: the registry takes differences.
 */
#ifndef BH_CONTROL_WATCH_TOLD_H
#define BH_CONTROL_WATCH_TOLD_H

#include "control/registry/registry.h"
#include "engine/postgres/watch.h"

struct bh_told {
    uint64_t file_epoch;
    struct bh_link_counters *tenants; /* by number; malloc */
    size_t count;
};

/** bh_told_forget(told): as if nothing had been told; frees what it holds. */
void bh_told_forget(struct bh_told *told);

/**
 * bh_told_changes(told, usage, arena, ret_values, ret_count, err):
 * The values in ${usage} that differ from those told (all, where its epoch is
 * another one; zeros that were never told stay out).  Sorts ${usage} by tenant.
 */
enum bh_code bh_told_changes(const struct bh_told *told, struct bh_link_usage *usage,
    struct bh_arena *arena, struct bh_usage_value **ret_values, size_t *ret_count,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_told_keep(told, usage): ${usage}, sorted by bh_told_changes, has been booked.  Without memory
 * it forgets. */
void bh_told_keep(struct bh_told *told, const struct bh_link_usage *usage);

#endif
