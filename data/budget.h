/*
 * The token bucket of database time: pure arithmetic on whole numbers, so that
 * it is exact.  A token is 1/1000 ns: `rate` milliseconds of database time per
 * second are `rate` tokens per nanosecond.  Not thread-safe: callers lock.
 */
#ifndef BH_DATA_BUDGET_H
#define BH_DATA_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#define BH_BUDGET_TOKENS_PER_NS 1000
#define BH_BUDGET_TOKENS_PER_MS INT64_C(1000000000)

struct bh_budget_rule {
    int64_t rate;  /* ms per s; 0: no limit */
    int64_t burst; /* tokens of a full bucket, ≥ 1 */
    int64_t debt;  /* how far below zero it may go, tokens, ≥ 0 */
};

struct bh_budget {
    int64_t level;  /* tokens; at or below zero nothing may begin */
    uint64_t at_ns; /* when ${level} was right, CLOCK_MONOTONIC */
};

/** bh_budget_refill(budget, rule, now_ns): add what has flowed in up to ${now_ns}; an earlier time
 * adds nothing. */
void bh_budget_refill(struct bh_budget *budget, const struct bh_budget_rule *rule, uint64_t now_ns);

/** bh_budget_charge(budget, rule, used_ns): take ${used_ns} of database time, down to the debt. */
void bh_budget_charge(
    struct bh_budget *budget, const struct bh_budget_rule *rule, uint64_t used_ns);

/** bh_budget_wait_ns(budget, rule): nanoseconds until something may begin, 0: now; after a refill.
 */
uint64_t bh_budget_wait_ns(const struct bh_budget *budget, const struct bh_budget_rule *rule);

#endif
