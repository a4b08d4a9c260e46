/*
 * A tenant's share of the server: how many of its statements run at a time
 * (max_concurrent_statements), and how much database time they may use
 * (database_ms_per_s with database_burst_ms).
 *
 * A statement over the share waits in its tenant's line: first those of
 * transactions that have run a statement before, because they may hold locks
 * that others wait for, else in the order of arrival.  Only the head of the line
 * goes on; after max_wait_ms a statement fails with TN007.
 *
 * `lock` guards all fields of struct bh_share and the places of its line.  The
 * timer of data/meter.c takes it too: hold it inside bh_meter_hold() only.
 */
#ifndef BH_DATA_ENFORCE_H
#define BH_DATA_ENFORCE_H

#include "postgres.h"

#include "storage/spin.h"

#include "data/budget.h"

enum bh_line { BH_LINE_STARTED, BH_LINE_FRESH, BH_LINE_COUNT };

struct bh_share {
    slock_t lock;
    int running;
    int waiting;
    int head[BH_LINE_COUNT]; /* backends, as indexes of PGPROC; -1: nobody */
    int tail[BH_LINE_COUNT];
    struct bh_budget_rule rule; /* of the last transaction that was bound */
    struct bh_budget budget;
};

/** bh_enforce_request() / bh_enforce_startup(): shared memory, from the hooks of these names. */
void bh_enforce_request(void);
void bh_enforce_startup(void);

/** bh_share_init(share): nobody runs; once, as the server starts. */
void bh_share_init(struct bh_share *share);

/** bh_share_load(share, budget): begin with ${budget}, as an earlier entry of the tenant left it.
 */
void bh_share_load(struct bh_share *share, const struct bh_budget *budget);

/**
 * bh_enforce_begin(share):
 * A transaction is bound to the tenant of ${share}; its limits are those of
 * data/limit.h.
 */
void bh_enforce_begin(struct bh_share *share);

/** bh_enforce_end(): the transaction is over: leave the line, run no more.  At exit too. */
void bh_enforce_end(void);

/**
 * bh_enforce_gate():
 * Before a statement: go on, or wait in line and go on, or raise TN007 with the
 * milliseconds after which to retry.  True: this backend counts as running until
 * bh_enforce_pause().
 */
bool bh_enforce_gate(void);

/** bh_enforce_pause(): the client's message is done (or the wait failed): run no more. */
void bh_enforce_pause(void);

/** bh_enforce_charged(): is there a budget, so that time must be charged at once? */
bool bh_enforce_charged(void);

/** bh_enforce_charge(share, used_ns): take database time from the tenant's budget, if it has one.
 */
void bh_enforce_charge(struct bh_share *share, uint64 used_ns);

/** bh_enforce_look(share, ret_running, ret_waiting, ret_tokens): for people; tokens after a refill.
 */
void bh_enforce_look(struct bh_share *share, int *ret_running, int *ret_waiting, int64 *ret_tokens);

#endif
