/* The registry's record of refusals: taken out of the rings of the database servers, listed,
 * pruned. */
#ifndef BH_CONTROL_REGISTRY_AUDIT_H
#define BH_CONTROL_REGISTRY_AUDIT_H

#include "control/registry/registry.h"

/* Entries as a server's ring gave them. */
struct bh_audit_batch {
    const char *server;
    int64_t epoch;      /* of the ring */
    int64_t suppressed; /* what its rate limit has held back since that began */
    bool quiet; /* nothing is going on: what was held back will not be told by an entry soon */
    const char *json; /* array of objects with the columns of bulkhead.audit_read() */
};

struct bh_audit_added {
    int64_t rows;    /* new ones, notes included */
    int64_t dropped; /* entries that the ring overwrote before they were read */
    int64_t seq;     /* how far the ring has been read now */
};

/**
 * bh_audit_add(db, batch, ret_added, err):
 * Keep what ${batch} holds beyond what was read of that ring before, and where
 * the reading stands, in one transaction: entries that come twice are kept once.
 * A gap in the numbers, entries held back by a rate limit and a new ring each
 * become a row of their own, so that nobody takes silence for peace.  A server
 * speaks for the tenants that it holds: of others a row has neither number nor
 * name, and names are those of this registry, not what the server says.
 */
enum bh_code bh_audit_add(struct bh_db *db, const struct bh_audit_batch *batch,
    struct bh_audit_added *ret_added, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_audit_prune(db, days, rows, ret_pruned, err):
 * Delete what is older than ${days}, and beyond ${rows} rows the oldest of
 * whoever has most: a tenant that floods pushes out its own rows, not those of
 * others.  Bounded work for each call.
 */
enum bh_code bh_audit_prune(struct bh_db *db, int64_t days, int64_t rows, int64_t *ret_pruned,
    struct bh_error *err) BH_MUSTCHECK;

struct bh_audit_row {
    const char *id; /* "aud_…" */
    const char *kind;
    int64_t at_us;
    int32_t no; /* 0: of nobody */
    const char *tenant;
    const char *subject;
    const char *server;
    const char *database;
    const char *object;
    const char *sqlstate;
    const char *message;
    const char *fingerprint;
    int64_t count;
};

struct bh_audit_filter {
    const char *sqlstate; /* NULL: any */
    const int64_t *from_us;
    const int64_t *to_us; /* NULL: no bound */
};

/** bh_audit_list(...): newest first; ${list}->after is an id. */
enum bh_code bh_audit_list(struct bh_db *db, struct bh_arena *arena, const struct bh_list *list,
    const struct bh_audit_filter *filter, struct bh_audit_row **ret_rows, size_t *ret_count,
    bool *ret_more, struct bh_error *err) BH_MUSTCHECK;

#endif
