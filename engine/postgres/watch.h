/*
 * What a database server tells about its tenants: usage, refusals, and what
 * drifted.  All that comes from there is data of somebody else: it is bounded,
 * checked, and every answer is waited for a bounded time only.
 *
 * A link is used by one thread at a time.
 */
#ifndef BH_ENGINE_POSTGRES_WATCH_H
#define BH_ENGINE_POSTGRES_WATCH_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/error.h"
#include "core/meter.h"

struct bh_link {
    PGconn *conn;       /* NULL: not connected */
    char extension[32]; /* version of the extension in that database, "" where there is none */
    bool usage;         /* can it tell usage, refusals, drift? */
    bool audit;
    bool check;
};

/**
 * bh_link_open(link, conninfo, database, err):
 * Connect as superuser with ${conninfo} (without a database) to ${database} and
 * look what its extension can tell.  BH_E_UNAVAILABLE where the server is out
 * of reach or silent, BH_E_CONFIG where it refuses us for good.
 */
enum bh_code bh_link_open(struct bh_link *link, const char *conninfo, const char *database,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_link_close(link): drop the connection, if any; it may be opened again. */
void bh_link_close(struct bh_link *link);

/**
 * bh_link_look(link, server, err):
 * Look again what it can tell.  BH_E_CONFIG where the server does not call
 * itself ${server}: its numbers would be booked on another (NULL: any will do).
 */
enum bh_code bh_link_look(
    struct bh_link *link, const char *server, struct bh_error *err) BH_MUSTCHECK;

/* A tenant's counters: absolute, only growing; -1 where the server does not say. */
struct bh_link_counters {
    int32_t no;
    int64_t values[BH_METER_DATABASE_COUNT]; /* meter BH_METER_EDGE_COUNT + i */
};

struct bh_link_usage {
    uint64_t file_epoch; /* differs for each life of the counters */
    int64_t sampled_us;
    struct bh_link_counters *tenants;
    size_t count;
};

/** bh_link_usage(link, arena, ret_usage, err): the whole server's counters; BH_E_ENGINE where they
 * make no sense. */
enum bh_code bh_link_usage(struct bh_link *link, struct bh_arena *arena,
    struct bh_link_usage *ret_usage, struct bh_error *err) BH_MUSTCHECK;

/* Where the ring of refusals stands. */
struct bh_link_ring {
    int64_t epoch;      /* new with each start of the server */
    int64_t head;       /* number of the newest entry in it */
    int64_t suppressed; /* refusals in it that a rate limit kept from being entries */
};

/** bh_link_ring(link, ret_ring, err): where it stands. */
enum bh_code bh_link_ring(
    struct bh_link *link, struct bh_link_ring *ret_ring, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_link_audit(link, arena, after, most, ret_json, err):
 * The entries after number ${after}, at most ${most}, as a JSON array of
 * objects with the columns of bulkhead.audit_read(); "[]" where there are none.
 */
enum bh_code bh_link_audit(struct bh_link *link, struct bh_arena *arena, int64_t after, int most,
    const char **ret_json, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_link_check(link, arena, ret_json, err):
 * Run bulkhead.selfcheck() in this database, for a minute at most: a JSON array of
 * {"object","problem","fix"}, at most 500; "[]" where all is well.
 */
enum bh_code bh_link_check(struct bh_link *link, struct bh_arena *arena, const char **ret_json,
    struct bh_error *err) BH_MUSTCHECK;

#endif
