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

#include "nodes/parsenodes.h"
#include "port/atomics.h"

#include "data/usage_file.h"

/* Above zero the timer keeps its hands off sums and shares; see bh_meter_hold(). */
extern volatile sig_atomic_t bh_meter_held;

/** bh_meter_hold() / bh_meter_release(): around what the timer touches; they nest. */
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

/** bh_meter_register(): watch the ends of transactions; once, at load. */
void bh_meter_register(void);

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

/**
 * bh_meter_open(gated):
 * Open a window, where a tenant is bound and none is open; with ${gated} through
 * the gate of data/enforce.h, which may wait or raise.  Returns its number for
 * bh_meter_close(); 0: none was opened.  An error that leaves it closes it.
 */
uint32 bh_meter_open(bool gated);

/** bh_meter_close(id): close window ${id}, if it is still open; 0 does nothing. */
void bh_meter_close(uint32 id);

/** bh_meter_use_processor_time(id): window ${id} waits for data of the client: measure the
 * processor's time instead. */
void bh_meter_use_processor_time(uint32 id);

/** bh_meter_add(meter, amount): count what no window sees by itself: statements and rows. */
void bh_meter_add(enum bh_usage_meter meter, uint64 amount);

/** bh_meter_transaction(stmt): the client said this: a rollback is no error, a commit passes no
 * gate. */
void bh_meter_transaction(const TransactionStmt *stmt);

/** bh_meter_outside(): is a tenant bound and no window open? */
bool bh_meter_outside(void);

/**
 * bh_meter_begin_function() / bh_meter_end_function(failed):
 * Around the call of a function; it opens a window where it is called outside of
 * all others.
 */
void bh_meter_begin_function(void);
void bh_meter_end_function(bool failed);

#endif
