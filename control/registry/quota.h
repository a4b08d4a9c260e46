/*
 * Budgets of quotas, shared by edges through leases (doc/contract/limits.md).
 *
 * An edge begins each window with a start lease (core/quota.h) without asking; every edge that was
 * heard of within a day has one put aside.  The rest is granted on demand, so that the sum of what
 * edges hold never exceeds the quota, but for what is said at bh_budget_ask.
 */
#ifndef BH_CONTROL_REGISTRY_QUOTA_H
#define BH_CONTROL_REGISTRY_QUOTA_H

#include <stddef.h>
#include <stdint.h>

#include "control/db.h"
#include "core/error.h"

/* Who asks. */
struct bh_budget_asker {
    const char *agent;  /* its id */
    const char *cell;   /* its cell: others' tenants get nothing */
    const char *source; /* the id, or below it: one of its limits files */
};

/* What a source asks of one quota in one window. */
struct bh_budget_want {
    int32_t no;
    const char *limit;
    int64_t begins_s; /* of the window, Unix */
    int64_t used;     /* so far in the window */
    int64_t want;     /* more that it would like to have ready */
};

struct bh_budget_lease {
    const struct bh_budget_want *want; /* NULL: there is no such quota, or the window is not now */
    int64_t granted;                   /* to this source, in all */
    int64_t elsewhere;                 /* granted to or put aside for others */
    int64_t left;                      /* nobody's yet */
};

/**
 * bh_budget_ask(db, asker, wants, count, ret_leases, err):
 * Answer all ${wants} (which get sorted) in one transaction into ${ret_leases} (${count} of them).
 * A source gets at most what it lacks of used + want; where there are n edges, at most 1/(2n) of
 * what is left at a time, at least 1.  Asking again grants nothing more.  More than the quota is
 * out only where start leases are: n edges of a quota below n, an edge that nobody had heard of, a
 * limits file that was lost.
 */
enum bh_code bh_budget_ask(struct bh_db *db, const struct bh_budget_asker *asker,
    struct bh_budget_want *wants, size_t count, struct bh_budget_lease *ret_leases,
    struct bh_error *err) BH_MUSTCHECK;

/* How one budget stands. */
struct bh_budget_state {
    const char *limit;
    int64_t begins_s;
    int64_t used;    /* as the edges told it */
    int64_t granted; /* to all of them */
};

/** bh_budget_list(db, arena, no, ret_states, ret_count, err): those of tenant ${no} whose windows
 * have not ended. */
enum bh_code bh_budget_list(struct bh_db *db, struct bh_arena *arena, int32_t no,
    struct bh_budget_state **ret_states, size_t *ret_count, struct bh_error *err) BH_MUSTCHECK;

/** bh_budget_prune(db, ret_pruned, err): forget windows that ended a day ago. */
enum bh_code bh_budget_prune(
    struct bh_db *db, int64_t *ret_pruned, struct bh_error *err) BH_MUSTCHECK;

#endif
