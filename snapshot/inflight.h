/*
 * Requests in flight: how many of each tenant were admitted at this edge and
 * are not finished, exactly, also after `kill -9` of a worker.
 *
 * A file beside the counters (`<counters>.inflight`, doc/contract/counters.md)
 * holds a column of counts for each worker, by the index of the tenant's slot in
 * the counters file.  Only its worker writes a column, and it holds a lock of
 * the open file (fcntl F_OFD_SETLK) on the column's byte for as long as it
 * lives: the kernel lets go of it however the worker ends, whatever pid comes
 * next, and in whatever pid namespace the reader is.  Whoever finds a column
 * without a lock clears it.
 *
 * Order: enter counts first and looks at the tenant's state afterwards; who
 * changes the state commits first and reads the count afterwards.  So a request
 * that saw the old state is in the count (all accesses are seq_cst).
 */
#ifndef BH_SNAPSHOT_INFLIGHT_H
#define BH_SNAPSHOT_INFLIGHT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/meter.h"

#define BH_INFLIGHT_SUFFIX ".inflight"

struct bh_inflight;

/**
 * bh_inflight_open(counters_path, counters, claim, ret_inflight, err):
 * Map the file that belongs to the ${counters} mapped from ${counters_path};
 * with ${claim} it is made where it is missing or belongs to another counters
 * file, and this process gets a column (once for each process, after fork) and
 * may enter; without, it only reads.  BH_E_UNAVAILABLE where all columns are in use,
 * BH_E_NOT_READY where there is none to read.
 */
enum bh_code bh_inflight_open(const char *counters_path, const struct bh_counters *counters,
    bool claim, struct bh_inflight **ret_inflight, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_inflight_replaced(inflight, counters_path):
 * Is the file gone or another one than is mapped?  Then what is counted here
 * reaches nobody.
 */
bool bh_inflight_replaced(const struct bh_inflight *inflight, const char *counters_path);

/** bh_inflight_index(counters, slot): the index of a tenant's slot. */
uint32_t bh_inflight_index(const struct bh_counters *counters, const struct bh_slot *slot);

/**
 * bh_inflight_enter(inflight, index):
 * Count one request more in our column; returns the place to hand to
 * bh_inflight_leave, valid for the process's life, NULL without a column.
 */
_Atomic uint32_t *bh_inflight_enter(struct bh_inflight *inflight, uint32_t index);

/** bh_inflight_leave(place): one request less; NULL is fine. */
void bh_inflight_leave(_Atomic uint32_t *place);

/**
 * bh_inflight_count(inflight, index):
 * Requests in flight in all workers, our own included.  A worker that died
 * counts until somebody sweeps.
 */
uint32_t bh_inflight_count(const struct bh_inflight *inflight, uint32_t index);

/** bh_inflight_sweep(inflight): clear the columns of workers that are gone; a system call for each
 * column that is in use. */
void bh_inflight_sweep(struct bh_inflight *inflight);

/**
 * bh_inflight_close(inflight, unmap):
 * Give our column back; with ${unmap} the mapping too: not while a place of it
 * is in use.  NULL is fine.
 */
void bh_inflight_close(struct bh_inflight *inflight, bool unmap);

#endif
