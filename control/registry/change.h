/*
 * How the registry's verbs and the flows change tenants and operations.
 *
 * Everything here runs inside the caller's transaction, which must have locked
 * the tenant's row first (tenant before operation before feed_head, always:
 * nobody deadlocks).
 */
#ifndef BH_CONTROL_REGISTRY_CHANGE_H
#define BH_CONTROL_REGISTRY_CHANGE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "control/db.h"
#include "core/error.h"
#include "core/tenant.h"

#define BH_OPERATION_ID (3 + BH_ULID_TEXT) /* "op_", 26 characters, NUL */
#define BH_KEY_ID (4 + BH_ULID_TEXT)       /* "key_" likewise, of API keys */
#define BH_PLAN_STEPS 4

/* SQL: states of tenants that have a record in the feed once they are routed. */
#define BH_FEED_STATES "('pending', 'active', 'suspended', 'moving')"

/* A kind of operation: which steps, in which order, towards being there or away. */
struct bh_plan {
    const char *kind;
    bool removes;
    const char *steps[BH_PLAN_STEPS]; /* up to the first NULL */
};

/** bh_plan_find(kind): the plan of that kind, or NULL. */
const struct bh_plan *bh_plan_find(const char *kind);

/**
 * bh_tenant_state_set(db, no, to, err):
 * The one way in which a tenant gets another state.  BH_E_INTERNAL for a
 * change that the table in state.c does not know; the same state again is fine.
 */
enum bh_code bh_tenant_state_set(
    struct bh_db *db, int32_t no, enum bh_tenant_state to, struct bh_error *err) BH_MUSTCHECK;

/* What bh_operation_start begins. */
struct bh_operation_new {
    int32_t no;
    const char *kind;
    int64_t generation;
};

/**
 * bh_operation_start(db, start, ret_id, err):
 * Begin an operation with the steps of its plan and wake the workers.  One
 * that still runs for the tenant ends as failed, "superseded"; its worker finds
 * out at its next write.
 */
enum bh_code bh_operation_start(struct bh_db *db, const struct bh_operation_new *start,
    char ret_id[BH_OPERATION_ID], struct bh_error *err) BH_MUSTCHECK;

/** bh_uid_new(ret_uid, err): a fresh UUIDv7 by this machine's clock. */
enum bh_code bh_uid_new(struct bh_uid *ret_uid, struct bh_error *err) BH_MUSTCHECK;

/** bh_operation_id_new(ret_id, err) / bh_key_id_new(ret_id, err): "op_" or "key_" and a fresh ULID.
 */
enum bh_code bh_operation_id_new(char ret_id[BH_OPERATION_ID], struct bh_error *err) BH_MUSTCHECK;
enum bh_code bh_key_id_new(char ret_id[BH_KEY_ID], struct bh_error *err) BH_MUSTCHECK;

/* A number as the text of a parameter. */
struct bh_number {
    char text[24];
};
static inline struct bh_number
bh_number(int64_t value)
{
    struct bh_number number;
    snprintf(number.text, sizeof(number.text), "%lld", (long long)value);
    return number;
}

/* A boolean as the text of a parameter. */
static inline const char *
bh_flag(bool value)
{
    return value ? "true" : "false";
}

/* µs since the epoch of a timestamptz column. */
#define BH_SQL_US(column) "(extract(epoch from " column ") * 1000000)::bigint"

/* A timestamptz column as answers show it. */
#define BH_SQL_TIME(column)                                                                        \
    "to_char(" column " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"

#endif
