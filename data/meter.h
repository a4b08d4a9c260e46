/*
 * Measures what a bound transaction uses, by executor, planner, utility and
 * function hooks, for the tenant's sums (data/usage.h) and share (data/enforce.h).
 *
 * Time runs in *windows*: the outermost of planning, starting and running a
 * query, a utility statement, or a function called outside of those.  Whatever
 * is nested lies inside, so nothing counts twice; between windows the client
 * thinks, and nobody counts.  Sums are backend-local; a timer adds them to
 * shared memory each 100 ms, inside a long window too, and once more after the
 * backend went idle.
 */
#ifndef BH_DATA_METER_H
#define BH_DATA_METER_H

#include "postgres.h"

#include <signal.h>

#include "port/atomics.h"

/* Above zero the timer keeps its hands off sums and shares; see bh_meter_hold(). */
extern volatile sig_atomic_t bh_meter_held;

/** bh_meter_hold() / bh_meter_release(): around what the timer's signal handler touches; they nest.
 */
static inline void
bh_meter_hold(void)
{
    bh_meter_held++;
    pg_compiler_barrier();
}

static inline void
bh_meter_release(void)
{
    pg_compiler_barrier();
    bh_meter_held--;
}

/** bh_meter_install(): put our hooks in front of those that are there; once, at load. */
void bh_meter_install(void);

/** bh_meter_begin(no): this transaction is bound to tenant ${no}, its limits are applied. */
void bh_meter_begin(int32 no);

/**
 * bh_meter_fast_path():
 * A function is about to be called outside of any query or utility statement:
 * where it is the protocol's fast path, it is a statement.
 */
void bh_meter_fast_path(void);

/** bh_meter_flush(): add this backend's sums to shared memory now. */
void bh_meter_flush(void);

#endif
