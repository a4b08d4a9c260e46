/*
 * What every driver can do: make one kind of resource in one engine.
 *
 * Each verb is told the attempt of the lease that it acts for.  A driver
 * refuses, in the engine itself, an attempt that is older than the newest that
 * touched the tenant there (BH_E_FENCED): who was frozen past its lease does no
 * harm when it wakes.  Every verb may be repeated.
 */
#ifndef BH_ENGINE_DRIVER_H
#define BH_ENGINE_DRIVER_H

#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

/* One numbered file of the application. */
struct bh_migration {
    const char *name; /* "0001_shop.sql" */
    const char *sql;
};

/* The tenant that a verb is about, and what its resource is to be. */
struct bh_resource {
    int32_t no;
    const char *id;
    int64_t epoch;
    const char *place;     /* where in the engine: a database */
    const char *operation; /* marks what is made, for people who look into the engine */
    const struct bh_migration *migrations;
    size_t migration_count;
};

enum bh_presence { BH_PRESENCE_ABSENT, BH_PRESENCE_PRESENT };

/*
 * Failures of the verbs: BH_E_FENCED; BH_E_UNAVAILABLE, BH_E_CONFLICT and
 * BH_E_TIMEOUT may pass by themselves; all others will not.
 */
struct bh_driver {
    const char *kind; /* of resource */
    const char *name; /* as tiers name it */

    /* Make it, or bring it up to date. */
    enum bh_code (*ensure)(
        void *engine, const struct bh_resource *resource, int64_t attempt, struct bh_error *err);
    /* Is it there? */
    enum bh_code (*observe)(void *engine, const struct bh_resource *resource, int64_t attempt,
        enum bh_presence *ret_presence, struct bh_error *err);
    /* Leave nothing of it but what fences older attempts. */
    enum bh_code (*remove)(
        void *engine, const struct bh_resource *resource, int64_t attempt, struct bh_error *err);
};

#endif
