/*
 * Failpoints: a way for tests to kill, fail or freeze this program at one exact
 * place, once.  Compiled in only where the build has -Dfailpoints=true.
 *
 * BULKHEAD_FAILPOINT=<step>:<before|after>:<kill|error|delay>[:n] acts at the
 * n-th passage of that place, counted in <state>/failpoints/ over all
 * processes, and then never again; a start without the variable, or with
 * another, forgets the count, so that a place can be armed anew.  A delay freezes the
 * worker and its heartbeat, by default for 15 s, else as many ms as
 * BULKHEAD_FAILPOINT_DELAY_MS says.
 */
#ifndef BH_CONTROL_FAILPOINT_H
#define BH_CONTROL_FAILPOINT_H

#include "bh_config.h"

enum bh_failpoint { BH_FAILPOINT_NONE, BH_FAILPOINT_ERROR, BH_FAILPOINT_DELAY };

#ifdef BH_FAILPOINTS

/**
 * bh_failpoint_pass(state_dir, step, when):
 * Count a passage of ${step} ${when} ("before", "after") and tell what is to
 * happen; a kill happens in here.  ${state_dir} NULL: nothing ever.
 */
enum bh_failpoint bh_failpoint_pass(const char *state_dir, const char *step, const char *when);

/** bh_failpoint_start(state_dir): forget the counts of what is not armed now; at the program's
 * start. */
void bh_failpoint_start(const char *state_dir);

/** bh_failpoint_delay_ms(): how long a delay lasts. */
int bh_failpoint_delay_ms(void);

/**
 * bh_failpoint_lease_ms(lease_ms):
 * How long leases last: ${lease_ms}, or what BULKHEAD_FAILPOINT_LEASE_MS (300 to
 * 600000) says, so that a test need not wait long for a dead worker's lease.
 */
int bh_failpoint_lease_ms(int lease_ms);

#else

static inline int
bh_failpoint_lease_ms(int lease_ms)
{
    return lease_ms;
}

static inline enum bh_failpoint
bh_failpoint_pass(const char *state_dir, const char *step, const char *when)
{
    (void)state_dir;
    (void)step;
    (void)when;
    return BH_FAILPOINT_NONE;
}

static inline void
bh_failpoint_start(const char *state_dir)
{
    (void)state_dir;
}

static inline int
bh_failpoint_delay_ms(void)
{
    return 0;
}

#endif

#endif
