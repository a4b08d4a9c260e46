/*
 * The watch over the database servers: metering, refusals, drift.
 *
 * For each server of the cell one thread reads bulkhead.usage and the ring of
 * refusals into the registry; one more runs the self-check of each database, at
 * start and daily, and prunes audit and feed.  A server that is slow, frozen or dead delays
 * nobody but its own thread.  Of several daemons one reads a server at a time
 * (a lease in the registry); where two do, nothing counts twice.
 */
#ifndef BH_CONTROL_WATCH_H
#define BH_CONTROL_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "control/db.h"
#include "core/error.h"

/* Strings are borrowed for the watch's life. */
struct bh_watch_config {
    const char *registry; /* conninfo: the watch has connections of its own */
    const char *server; /* superuser on servers that the registry gives no conninfo of their own */
    const char *cell;
    int interval_ms; /* between two readings of a server */
    int64_t audit_days;
    int64_t audit_rows;
};

struct bh_watch;

/** bh_watch_start(config, ret_watch, err): start; the registry is up to date by now. */
enum bh_code bh_watch_start(const struct bh_watch_config *config, struct bh_watch **ret_watch,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_watch_stop(watch): give the leases back, end the threads (at most 5 s), free. */
void bh_watch_stop(struct bh_watch *watch);

#endif
