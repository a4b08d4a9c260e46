/*
 * What each tenant used, for the whole server, in shared memory.
 *
 * A fixed number of entries (bulkhead.usage_entries) is a cache over the file of
 * usage_file.h: the least used tenant's sums go to its record and come back from
 * it, so memory is bounded and no sum is lost.  An entry that a process has
 * pinned stays; its values are atomic and need no lock.
 *
 * Locks: `table` guards which tenant has which entry, shortly and never across
 * I/O; `file` is held by whoever moves entries between memory and file.
 */
#ifndef BH_DATA_USAGE_H
#define BH_DATA_USAGE_H

#include "postgres.h"

#include "port/atomics.h"

#include "data/enforce.h"
#include "data/usage_file.h"

struct bh_usage_entry {
    int32 no;
    pg_atomic_uint32 pins;
    pg_atomic_uint32 heat; /* how often it was pinned of late; falls as the sweep passes */
    pg_atomic_uint64 values[BH_USAGE_COUNT]; /* times in ns */
    struct bh_share share;
};

/** bh_usage_request() / bh_usage_startup(): shared memory, from the hooks of these names. */
void bh_usage_request(void);
void bh_usage_startup(void);

/** bh_usage_pin(no): the entry of tenant ${no}, until bh_usage_unpin(); raises where the file
 * fails. */
struct bh_usage_entry *bh_usage_pin(int32 no);

/** bh_usage_unpin(entry): give it back; safe while the process exits. */
void bh_usage_unpin(struct bh_usage_entry *entry);

/** bh_usage_epoch(): the file epoch; values of one epoch only grow. */
uint64 bh_usage_epoch(void);

/**
 * bh_usage_each(see, arg):
 * Call ${see} once for each tenant that has a sum.  A tenant's values never are
 * below those of an earlier call of the same epoch.
 */
void bh_usage_each(void (*see)(const struct bh_usage_record *record, void *arg), void *arg);

/** bh_usage_each_share(see, arg): call ${see} for each tenant in memory, under a lock: be quick. */
void bh_usage_each_share(void (*see)(int32 no, struct bh_share *share, void *arg), void *arg);

#endif
