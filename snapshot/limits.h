/*
 * The state of all limits but `default`: a file beside the counters
 * (`<counters>.limits`, doc/contract/limits.md) that nginx's workers and the
 * agent map together.
 *
 * A limit of one tenant, subject or address is a cell, found by a keyed hash of
 * who and what, all 128 bits compared.  Cells are claimed under a lock of the
 * kernel's (F_OFD_SETLK, gone with its holder) so that a key has one cell, and
 * used without any.  A cell is free once its `state`, a time of CLOCK_MONOTONIC,
 * has passed: then it says nothing that an empty one would not.  `state` only
 * grows from one owner to the next, so a compare-and-swap of it cannot hit the
 * cell of another owner.
 *
 * One tenant's clients cannot crowd out others: a tenant gets a further cell
 * among the 32 places of a key only while it has less than a quarter of what
 * is free there.
 */
#ifndef BH_SNAPSHOT_LIMITS_H
#define BH_SNAPSHOT_LIMITS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/policy.h"
#include "core/quota.h"
#include "core/str.h"
#include "snapshot/cells.h"

#define BH_LIMITS_SUFFIX ".limits"
#define BH_LIMITS_LOST_NS UINT64_C(30000000000) /* a control plane that was silent for longer */
#define BH_QUOTA_NAME_MAX 40
#define BH_QUOTA_CELLS (UINT32_C(1) << 22) /* of one file */

struct bh_limits;

/* What one edge knows of a quota of one tenant in one window. */
struct bh_quota {
    struct bh_cell cell;
    _Atomic uint64_t used;      /* here; requests or bytes */
    _Atomic uint64_t leased;    /* how far ${used} may go; the agent raises it */
    _Atomic uint64_t elsewhere; /* used by or leased to others, as the agent was told last */
    _Atomic uint64_t amount;    /* of the policy: what all edges may use together */
    int64_t begins_s;           /* the window, wall clock */
    int64_t ends_s;
    uint32_t window;              /* enum bh_limit_window */
    uint32_t unit;                /* enum bh_limit_unit */
    char name[BH_QUOTA_NAME_MAX]; /* of the limit, zero padded */
};
_Static_assert(sizeof(struct bh_quota) == 128, "a quota is two cache lines");

/**
 * bh_limits_open(counters_path, claim, ret_limits, err):
 * Map the file beside ${counters_path}, made where it is missing or of another
 * version.  With ${claim} this process gets a column for concurrent requests
 * (once for each process, after fork).
 */
enum bh_code bh_limits_open(const char *counters_path, bool claim, struct bh_limits **ret_limits,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_limits_replaced(limits, counters_path): is the file gone or another one than is mapped? */
bool bh_limits_replaced(const struct bh_limits *limits, const char *counters_path);

/**
 * bh_limits_close(limits, unmap): with ${unmap} the mapping too: not while a cell of it is in use.
 * NULL is fine.
 */
void bh_limits_close(struct bh_limits *limits, bool unmap);

/** bh_limits_sweep(limits): concurrent requests of workers that are gone count no more. */
void bh_limits_sweep(struct bh_limits *limits);

/* ---- for the agent ---- */

/** bh_limits_epoch(limits): the file's; it differs for each file that ever was. */
uint64_t bh_limits_epoch(const struct bh_limits *limits);

/**
 * bh_limits_quotas(limits, visit, arg):
 * Call ${visit} for every quota of a window that has not ended two hours ago, until it returns
 * false.  Only pages that exist are read.
 */
void bh_limits_quotas(
    struct bh_limits *limits, bool (*visit)(struct bh_quota *quota, void *arg), void *arg);

/**
 * bh_limits_touched(limits, visit, arg):
 * The same for those alone whose neighbourhood was used, or refused somebody, since anybody asked:
 * what one asker is told of, another is not.
 */
void bh_limits_touched(
    struct bh_limits *limits, bool (*visit)(struct bh_quota *quota, void *arg), void *arg);

/**
 * bh_quota_lease(quota, leased, elsewhere):
 * The control plane's answer: this edge may go to ${leased} (never lowered), ${elsewhere} is used
 * by or leased to others.
 */
void bh_quota_lease(struct bh_quota *quota, uint64_t leased, uint64_t elsewhere);

/**
 * bh_limits_renewed(limits, now_ns):
 * At ${now_ns} of CLOCK_MONOTONIC the control plane answered a renewal (also one without quotas).
 */
void bh_limits_renewed(struct bh_limits *limits, uint64_t now_ns);

/** bh_limits_lost(limits, now_ns): was that never, or longer ago than BH_LIMITS_LOST_NS? */
bool bh_limits_lost(const struct bh_limits *limits, uint64_t now_ns);

/* ---- for the edge ---- */

/* Whom and when a request is counted for. */
struct bh_limit_moment {
    uint64_t now_ns;         /* CLOCK_MONOTONIC */
    uint64_t (*clock)(void); /* the same; NULL: time stands still.  Read after a state was: who was
                                stopped in between must not take it for one of the far future */
    int64_t wall_s;
    uint32_t no;    /* of the tenant */
    uint32_t share; /* of the tenant's limits that this edge has, of 1000 */
};

/* One limit as one request meets it. */
struct bh_limit_use {
    const struct bh_limit *limit;
    struct bh_cell_key key;
    bool shared;     /* the key is that of all clients for whom there is no place */
    uint64_t q;      /* the limit as RateLimit-Policy says it */
    uint64_t w_s;    /* its window; 0: it has none */
    uint32_t rate;   /* of this edge */
    uint64_t amount; /* of this edge: burst, or concurrent requests; of all edges: quota */
    int64_t begins_s;
    int64_t ends_s;
    uint64_t units; /* what the request takes of it */
    /* the answer, after look or take */
    bool allowed;
    uint64_t left;   /* after this request; where it was only looked at: before it */
    uint64_t t_s;    /* until there is more; 0: not known */
    uint64_t wait_s; /* where it is not allowed: try again after */
    /* what was taken */
    struct bh_cell *cell;
    _Atomic uint32_t *count; /* concurrent */
    uint64_t taken_ns;
};

/**
 * bh_limit_use(limits, limit, moment, who, units, ret_use):
 * Get ready to count ${units} on ${limit} (borrowed) for ${who}, text or bytes of the subject or
 * address; not looked at for a limit per tenant.
 */
void bh_limit_use(struct bh_limits *limits, const struct bh_limit *limit,
    const struct bh_limit_moment *moment, struct bh_str who, uint64_t units,
    struct bh_limit_use *ret_use);

/** bh_limit_look(limits, moment, use): would it be allowed?  Takes nothing. */
void bh_limit_look(
    struct bh_limits *limits, const struct bh_limit_moment *moment, struct bh_limit_use *use);

/** bh_limit_take(limits, moment, use): take it where it is allowed; returns use->allowed. */
bool bh_limit_take(
    struct bh_limits *limits, const struct bh_limit_moment *moment, struct bh_limit_use *use);

/** bh_limit_give(use, now_ns): give back what was taken: another limit refused the request. */
void bh_limit_give(struct bh_limit_use *use, uint64_t now_ns);

/**
 * bh_limit_settle(use, units):
 * The request is at its end: it took ${units} in fact; one that ran runs no more.
 */
void bh_limit_settle(struct bh_limit_use *use, uint64_t units);

#endif
