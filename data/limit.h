/*
 * What a tenant may use: bulkhead.tenant.limits, or the setting
 * `bulkhead.<name>` where the tenant has none.
 *
 * For a setting of PostgreSQL the limit is also its highest value: the tenant
 * may lower it and come back up, not beyond.  SET and its kin are refused where
 * the value is stated; what goes back to the connection's default by another
 * way (set_config with NULL) is refused there too.  In a tenant's own database it is
 * not refused but lowered.
 */
#ifndef BH_DATA_LIMIT_H
#define BH_DATA_LIMIT_H

#include "postgres.h"

#include "utils/jsonb.h"

enum bh_limit {
    BH_LIMIT_STATEMENT_TIMEOUT,
    BH_LIMIT_LOCK_TIMEOUT,
    BH_LIMIT_IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    BH_LIMIT_WORK_MEM,
    BH_LIMIT_HASH_MEM_MULTIPLIER,
    BH_LIMIT_MAINTENANCE_WORK_MEM,
    BH_LIMIT_TEMP_BUFFERS,
    BH_LIMIT_TEMP_FILE_LIMIT,
    BH_LIMIT_MAX_PARALLEL_WORKERS_PER_GATHER,
    BH_LIMIT_SETTINGS, /* those above are settings of PostgreSQL, those below are counted by us */
    BH_LIMIT_MAX_SUBTRANSACTIONS = BH_LIMIT_SETTINGS,
    BH_LIMIT_MAX_NESTED_SUBTRANSACTIONS,
    BH_LIMIT_MAX_LOCKS,
    BH_LIMIT_MAX_CONCURRENT_STATEMENTS, /* the tenant's on the whole server; data/enforce.h */
    BH_LIMIT_DATABASE_MS_PER_S,
    BH_LIMIT_DATABASE_BURST_MS,
    BH_LIMIT_DATABASE_DEBT_MS,
    BH_LIMIT_MAX_WAIT_MS,
    BH_LIMIT_COUNT
};

/* In the unit of the setting; NaN where the tenant has no limit of its own. */
struct bh_limits {
    double values[BH_LIMIT_COUNT];
};

/** bh_limits_define(): declare bulkhead.<name> for each, and watch the settings; once, at load. */
void bh_limits_define(void);

/**
 * bh_limits_parse(json, ret_limits):
 * An object of names as above in lower case; values are whole numbers in the
 * setting's unit, texts with a unit ("30s", "16MB"), or null for none.  Raises
 * where a name is unknown or a value is none that the setting takes.
 */
void bh_limits_parse(Jsonb *json, struct bh_limits *ret_limits);

enum bh_limits_how {
    BH_LIMITS_REFUSE, /* who asks for more is told so; values are set at the current nest level */
    BH_LIMITS_CLAMP,  /* who asks for more gets the limit; likewise */
    BH_LIMITS_SESSION /* who asks for more gets the limit; the session's own values are lowered */
};

/**
 * bh_limits_apply(limits, how):
 * Hold ${limits} until bh_limits_end().  BH_LIMITS_REFUSE also gives the settings
 * these values, or `bulkhead.<name>` where there is none; the other two, for a
 * tenant's own database, know the tenant's own limits only, and as a ceiling.
 */
void bh_limits_apply(const struct bh_limits *limits, enum bh_limits_how how);

/** bh_limits_end(): nothing is limited any more; does not change a setting. */
void bh_limits_end(void);

/** bh_limits_check(): raises TN005 where a setting is above its limit, or lowers it to that. */
void bh_limits_check(void);

/** bh_limits_count(which): the limit ${which}, one that we count, of this transaction. */
int bh_limits_count(enum bh_limit which);

#endif
