/* The slots of the counters file that somebody used. */
#ifndef BH_AGENT_SLOTS_H
#define BH_AGENT_SLOTS_H

#include "core/error.h"
#include "core/meter.h"

typedef enum bh_code bh_slot_visit(
    void *arg, uint32_t index, const struct bh_slot *slot, uint32_t no, struct bh_error *err);

/**
 * bh_slots_each(file, counters, visit, arg, err):
 * Call ${visit} for each claimed slot of ${counters}, which ${file} is open on,
 * until it fails; returns what it returned.  Holes of the sparse file are
 * skipped: to touch one through the mapping would fill it.
 */
enum bh_code bh_slots_each(int file, const struct bh_counters *counters, bh_slot_visit *visit,
    void *arg, struct bh_error *err) BH_MUSTCHECK;

#endif
