/* What the registry knows of its database servers: who reads them, how they are, what drifted. */
#ifndef BH_CONTROL_REGISTRY_WATCH_H
#define BH_CONTROL_REGISTRY_WATCH_H

#include "control/registry/registry.h"

/* ---- reading (watch.c) ---- */

struct bh_watched {
    const char *server;
    const char *conninfo; /* NULL: as --server says */
    const char *database; /* one with the extension; NULL: it holds none of ours yet */
};

/** bh_watched_list(db, arena, cell, ret_servers, ret_count, err): the servers of ${cell}, each with
 * a row to lease, its databases with rows to check. */
enum bh_code bh_watched_list(struct bh_db *db, struct bh_arena *arena, const char *cell,
    struct bh_watched **ret_servers, size_t *ret_count, struct bh_error *err) BH_MUSTCHECK;

struct bh_watch_lease {
    bool held;       /* ours for as long as was asked */
    bool ring_known; /* a ring was read before: */
    int64_t ring_epoch;
    int64_t ring_seq;
    int64_t ring_told; /* of those that its rate limit held back */
};

/**
 * bh_watch_take(db, server, owner, lease_ms, ret_lease, err):
 * Lease ${server} for reading, or prolong our own lease; not held where
 * another daemon has it.
 */
enum bh_code bh_watch_take(struct bh_db *db, const char *server, const char *owner, int lease_ms,
    struct bh_watch_lease *ret_lease, struct bh_error *err) BH_MUSTCHECK;

/** bh_watch_release(db, server, owner, err): let another daemon have it at once. */
enum bh_code bh_watch_release(
    struct bh_db *db, const char *server, const char *owner, struct bh_error *err) BH_MUSTCHECK;

/* How a server is. */
struct bh_watch_state {
    const char *state;     /* up, limited, down */
    const char *message;   /* why, or NULL */
    const char *extension; /* its version, or NULL */
};

/** bh_watch_report(db, server, state, err): remember how it is; unless it is down, it was read now.
 */
enum bh_code bh_watch_report(struct bh_db *db, const char *server,
    const struct bh_watch_state *state, struct bh_error *err) BH_MUSTCHECK;

struct bh_server_row {
    const char *name;
    const char *cell;
    const char *state; /* unknown where nobody reads it now */
    const char *message;
    const char *extension;
    int64_t changed_us;
    int64_t read_us;
    const char *databases; /* JSON: [{"name","checked_at","findings"}] */
};

/** bh_server_list(...): by name; ${list}->after is a name. */
enum bh_code bh_server_list(struct bh_db *db, struct bh_arena *arena, const struct bh_list *list,
    struct bh_server_row **ret_rows, size_t *ret_count, bool *ret_more,
    struct bh_error *err) BH_MUSTCHECK;

/* ---- the self-check (selfcheck.c) ---- */

/**
 * bh_selfcheck_wake(db, cell, delay_s, ret_asked_us, err):
 * Every database (of ${cell}; NULL: of all) is to be checked in ${delay_s}
 * seconds; ${ret_asked_us}: the time now by the registry's clock, before which
 * no check that this brings about began.
 */
enum bh_code bh_selfcheck_wake(struct bh_db *db, const char *cell, int delay_s,
    int64_t *ret_asked_us, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_selfcheck_claim(db, arena, cell, ret_place, ret_found, err):
 * A database of ${cell} that is due, on a server that is not known to be down;
 * nobody else gets it for two minutes.
 */
enum bh_code bh_selfcheck_claim(struct bh_db *db, struct bh_arena *arena, const char *cell,
    struct bh_watched *ret_place, bool *ret_found, struct bh_error *err) BH_MUSTCHECK;

/** bh_selfcheck_defer(db, place, seconds, err): it could not be checked; again after ${seconds}. */
enum bh_code bh_selfcheck_defer(struct bh_db *db, const struct bh_watched *place, int seconds,
    struct bh_error *err) BH_MUSTCHECK;

struct bh_finding {
    const char *id;
    const char *server;
    const char *database;
    const char *object;
    const char *problem;
    const char *fix; /* may be NULL */
    int64_t found_us;
    bool gone; /* of bh_selfcheck_store: it was there and is no more */
};

/**
 * bh_selfcheck_store(db, arena, place, json, ret_changes, ret_count, err):
 * ${json} ([{"object","problem","fix"}]) is what ${place} has now; ${ret_changes}
 * is what is new in it and what is gone.  Looks again after a minute while
 * there is something, else after a day.
 */
enum bh_code bh_selfcheck_store(struct bh_db *db, struct bh_arena *arena,
    const struct bh_watched *place, const char *json, struct bh_finding **ret_changes,
    size_t *ret_count, struct bh_error *err) BH_MUSTCHECK;

/** bh_finding_list(...): by the time they were found; ${list}->after is an id. */
enum bh_code bh_finding_list(struct bh_db *db, struct bh_arena *arena, const struct bh_list *list,
    const struct bh_watched *place, struct bh_finding **ret_findings, size_t *ret_count,
    bool *ret_more, struct bh_error *err) BH_MUSTCHECK;

#endif
