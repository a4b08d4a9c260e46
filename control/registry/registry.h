/*
 * The registry's verbs: everything that the API and the flows ask of it.
 *
 * Functions borrow a connection, open and end their own transaction unless
 * they say otherwise, and put what they return into ${arena}.  Text members
 * are NUL-terminated; times are µs since the epoch, 0 where there is none.
 */
#ifndef BH_CONTROL_REGISTRY_H
#define BH_CONTROL_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "control/db.h"
#include "core/arena.h"
#include "core/error.h"
#include "core/key.h"
#include "core/tenant.h"

/* ---- tenants (tenant.c) ---- */

struct bh_limits {
    int32_t rate; /* requests_per_second */
    int32_t burst;
};

struct bh_tenant {
    const char *id;
    const char *uid;
    int32_t no;
    const char *name;
    const char *tier;
    struct bh_limits limits;
    const char *edge;      /* JSON text, an object (core/policy.h) */
    const char *domains;   /* JSON text, an array of strings */
    const char *endpoints; /* the same; [] are its cell's */
    const char *state;
    int64_t epoch;
    int64_t generation;
    int64_t observed_generation;
    const char *cell;
    const char *server;    /* NULL until placed */
    const char *database;  /* NULL until placed */
    const char *operation; /* id of the running one, or NULL */
    const char *failure;   /* problem as JSON text, or NULL */
    int64_t created_us;
    int64_t updated_us;
};

/* What a PUT asks for: complete, defaults filled in. */
struct bh_tenant_wish {
    const char *id;
    const char *name;
    const char *tier;
    struct bh_limits limits;
    const char *edge; /* as above, checked by core/tenantdoc.h */
    const char *domains;
    const char *endpoints;
    const char *if_match; /* NULL: no condition; an ETag with its quotes, or "*" */
    bool create_only;     /* If-None-Match: * */
};

enum bh_change { BH_CHANGE_CREATED, BH_CHANGE_UPDATED, BH_CHANGE_NONE };

/**
 * bh_tenant_put(db, arena, wish, ret_tenant, ret_change, err):
 * Make ${wish} the desired state.  New: gives uid and no, starts the operation
 * `onboard`.  Changed: generation + 1; `update` starts (or the running flow is
 * superseded) where anything but the name differs, nothing where only the registry
 * changes (then observed_generation follows at once, or when the running flow
 * ends).  Identical: nothing.  A failed tenant put again starts onboarding
 * anew, and what an update failed to reach is tried again, also by an identical
 * PUT (BH_CHANGE_UPDATED).  The operation is in
 * ${ret_tenant}->operation.  Two PUTs of one id at once make one tenant.
 * BH_E_INVALID where there is no such tier, or its policy and ${wish}->edge together
 * make none that is right; then BH_E_CONFLICT while offboarding (hint: the operation),
 * BH_E_PRECONDITION for the conditions, BH_E_CONFLICT for a domain of another tenant.
 */
enum bh_code bh_tenant_put(struct bh_db *db, struct bh_arena *arena,
    const struct bh_tenant_wish *wish, struct bh_tenant *ret_tenant, enum bh_change *ret_change,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_tenant_get(db, arena, id, ret_tenant, err): the living tenant; BH_E_NOT_FOUND. */
enum bh_code bh_tenant_get(struct bh_db *db, struct bh_arena *arena, const char *id,
    struct bh_tenant *ret_tenant, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_tenant_delete(db, arena, id, if_match, ret_tenant, err):
 * Begin to remove it: generation + 1, state offboarding, operation `offboard` (a
 * running flow is superseded).  Again: the same operation, whatever ${if_match};
 * a new one where it had failed.  BH_E_NOT_FOUND, BH_E_PRECONDITION.
 */
enum bh_code bh_tenant_delete(struct bh_db *db, struct bh_arena *arena, const char *id,
    const char *if_match, struct bh_tenant *ret_tenant, struct bh_error *err) BH_MUSTCHECK;

/** bh_tenant_etag(tenant, ret_etag): `"<uid>.<generation>"` with its quotes; changes exactly with
 * generation. */
void bh_tenant_etag(const struct bh_tenant *tenant, char ret_etag[80]);

/* A page of a list: items after the key ${after} (NULL: from the start). */
struct bh_list {
    int limit;         /* 1–500 */
    const char *after; /* last key of the page before */
    const char *state; /* NULL: any */
    const char *q; /* NULL: any; literal substring of id or name (operations: id), case ignored */
    const char *tenant; /* operations: id of the tenant, NULL: any */
};

/** bh_tenant_list(...): living tenants by id; ${ret_more}: are there more after the last? */
enum bh_code bh_tenant_list(struct bh_db *db, struct bh_arena *arena, const struct bh_list *list,
    struct bh_tenant **ret_tenants, size_t *ret_count, bool *ret_more,
    struct bh_error *err) BH_MUSTCHECK;

/* ---- tiers (tier.c) ---- */

struct bh_tier {
    const char *name;
    const char *edge; /* JSON text, an object (core/policy.h) */
    int64_t generation;
    int64_t created_us;
    int64_t updated_us;
};

/* What a PUT of a tier asks for. */
struct bh_tier_wish {
    const char *name;
    const char *edge;
    const char *if_match; /* as of tenants */
    bool create_only;
};

/**
 * bh_tier_put(db, arena, wish, ret_tier, ret_change, err):
 * Make ${wish} the tier, and append its policy and those of its tenants that state something of
 * their own to the feed, all in one transaction.  BH_E_PRECONDITION; BH_E_CONFLICT where a tenant
 * of the tier would have a policy that is wrong (detail: which).
 */
enum bh_code bh_tier_put(struct bh_db *db, struct bh_arena *arena, const struct bh_tier_wish *wish,
    struct bh_tier *ret_tier, enum bh_change *ret_change, struct bh_error *err) BH_MUSTCHECK;

/** bh_tier_get(db, arena, name, ret_tier, err): BH_E_NOT_FOUND. */
enum bh_code bh_tier_get(struct bh_db *db, struct bh_arena *arena, const char *name,
    struct bh_tier *ret_tier, struct bh_error *err) BH_MUSTCHECK;

/** bh_tier_list(...): by name; ${list}: limit and after count. */
enum bh_code bh_tier_list(struct bh_db *db, struct bh_arena *arena, const struct bh_list *list,
    struct bh_tier **ret_tiers, size_t *ret_count, bool *ret_more,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_tier_etag(tier, ret_etag): `"<name>.<generation>"` with its quotes. */
void bh_tier_etag(const struct bh_tier *tier, char ret_etag[80]);

/**
 * bh_tenant_policy(db, arena, no, ret_text, err):
 * What tier and tenant together say to the edge: JSON text.
 */
enum bh_code bh_tenant_policy(struct bh_db *db, struct bh_arena *arena, int32_t no,
    const char **ret_text, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_tier_check(db, name, edge, err):
 * Inside a transaction: hold the tier ${name} until its end, and check that a tenant may lay
 * ${edge} over it.  BH_E_INVALID at "/tier" (the detail lists tiers) or below "/edge".
 */
enum bh_code bh_tier_check(
    struct bh_db *db, const char *name, const char *edge, struct bh_error *err) BH_MUSTCHECK;

/* ---- operations (operation.c) ---- */

struct bh_step {
    const char *name;
    const char *state;
    int32_t attempt;
    const char *error; /* problem as JSON text, or NULL */
    int64_t started_us;
    int64_t finished_us;
};

struct bh_operation {
    const char *id;
    const char *kind;
    const char *tenant; /* id */
    int64_t generation;
    const char *state;
    const char *error; /* problem as JSON text, or NULL */
    struct bh_step *steps;
    size_t step_count;
    int64_t created_us;
    int64_t finished_us;
};

enum bh_code bh_operation_get(struct bh_db *db, struct bh_arena *arena, const char *id,
    struct bh_operation *ret_operation, struct bh_error *err) BH_MUSTCHECK;

/** bh_operation_list(...): newest first. */
enum bh_code bh_operation_list(struct bh_db *db, struct bh_arena *arena, const struct bh_list *list,
    struct bh_operation **ret_operations, size_t *ret_count, bool *ret_more,
    struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_operation_resume(db, arena, id, ret_operation, err):
 * `op resume`: start a failed or undone operation's tenant again as a new
 * operation, which is returned.  A running one is returned as it is.
 * BH_E_CONFLICT where it succeeded or a newer one exists (hint names it).
 */
enum bh_code bh_operation_resume(struct bh_db *db, struct bh_arena *arena, const char *id,
    struct bh_operation *ret_operation, struct bh_error *err) BH_MUSTCHECK;

/* ---- feed (feed.c) ---- */

struct bh_feed_row {
    int64_t seq;
    int32_t no; /* of a tenant's record; 0: the row is a document */
    int64_t version;
    const char *record;   /* JSON text (doc/contract/feed.md), or NULL for a tombstone */
    const char *document; /* its name, or NULL for a record */
    const char *body;     /* JSON text, or NULL for a tombstone */
};

/** bh_feed_head(db, ret_incarnation, ret_seq, err): where the feed stands. */
enum bh_code bh_feed_head(struct bh_db *db, char ret_incarnation[BH_UID_TEXT], int64_t *ret_seq,
    struct bh_error *err) BH_MUSTCHECK;

/* Who reads: rows of ${cell}, and of every cell; without ${documents} records only. */
struct bh_feed_scope {
    const char *cell;
    bool documents;
};

/**
 * bh_feed_read(db, arena, scope, after, limit, ret_rows, ret_count, err):
 * Rows of ${scope} with seq > ${after}, in order; of the rows of a tenant or document
 * those that a newer one replaces may be missing.  BH_E_GONE where ${after} lies beyond the
 * head, or before a tombstone that was pruned.
 */
enum bh_code bh_feed_read(struct bh_db *db, struct bh_arena *arena,
    const struct bh_feed_scope *scope, int64_t after, int limit, struct bh_feed_row **ret_rows,
    size_t *ret_count, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_feed_prune(db, ret_pruned, err):
 * Delete rows older than a day that a newer one of the same tenant or document replaces,
 * and tombstones older than a month of tenants that are gone, and of documents.
 */
enum bh_code bh_feed_prune(
    struct bh_db *db, int64_t *ret_pruned, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_feed_snapshot(db, scope, ret_incarnation, ret_seq, visit, arg, err):
 * The newest row of every document, and of every tenant, of ${scope} that has a record, with
 * the seq that they are true at (one consistent view).  ${visit} gets each row, whose texts
 * it borrows, after incarnation and seq were written; it stops the walk by returning false.
 */
enum bh_code bh_feed_snapshot(struct bh_db *db, const struct bh_feed_scope *scope,
    char ret_incarnation[BH_UID_TEXT], int64_t *ret_seq,
    bool (*visit)(void *arg, const struct bh_feed_row *row), void *arg,
    struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_feed_append(db, no, ret_seq, err):
 * Append the current record of tenant ${no} (its tombstone where it is neither
 * pending nor active), and its own policy `policy/t<no>` where it states something,
 * *inside the caller's transaction*, as its last statements before COMMIT, and
 * NOTIFY bulkhead_feed.  Where the newest row says the same
 * already, none is added.  ${ret_seq}: of the row that says it, 0 where nothing
 * was ever said.  The caller holds the tenant's row.
 */
enum bh_code bh_feed_append(
    struct bh_db *db, int32_t no, int64_t *ret_seq, struct bh_error *err) BH_MUSTCHECK;

#define BH_FEED_NAME_MAX 255   /* bytes of a document's name */
#define BH_FEED_BODY_MAX 65536 /* bytes of its body */

/* A document of the feed (doc/contract/feed.md). */
struct bh_feed_document {
    const char *name; /* "policy/gold", at most 255 bytes */
    const char *cell; /* who gets it; NULL: every cell.  Always the same for one name */
    const char *body; /* JSON text of at most 64 KiB, never secret; NULL: its tombstone */
};

/**
 * bh_feed_document_append(db, document, ret_seq, err):
 * Append ${document} *inside the caller's transaction*, among its last statements before COMMIT
 * (it locks feed_head, the last lock of all), and NOTIFY bulkhead_feed.  Its version is the
 * row's seq.  Where the newest row says the same already (or a tombstone is asked for what never
 * was), none is added; ${ret_seq} as of bh_feed_append.  The caller holds a lock under which
 * nobody else appends this name.  BH_E_TOO_LARGE, BH_E_INTERNAL for a name that cannot be.
 */
enum bh_code bh_feed_document_append(struct bh_db *db, const struct bh_feed_document *document,
    int64_t *ret_seq, struct bh_error *err) BH_MUSTCHECK;

/* ---- agents, keys, usage, principals (agent.c keyring.c usage.c principal.c) ---- */

/** bh_agent_ack(db, id, cell, incarnation, seq, key_epoch, err): remember what the agent applied;
 * NOTIFY bulkhead_ack. */
enum bh_code bh_agent_ack(struct bh_db *db, const char *id, const char *cell,
    const char *incarnation, int64_t seq, int32_t key_epoch, struct bh_error *err) BH_MUSTCHECK;

struct bh_principal {
    const char *id;
    const char *kind; /* operator, agent */
    const char *cell; /* an agent's, else NULL */
};

/** bh_principal_find(db, arena, token_sha256, ret_principal, err): BH_E_UNAUTHENTICATED where
 * unknown. */
enum bh_code bh_principal_find(struct bh_db *db, struct bh_arena *arena,
    const uint8_t token_sha256[32], struct bh_principal *ret_principal,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_principal_ensure(db, id, kind, cell, token_sha256, err): make or replace the principal ${id}.
 */
enum bh_code bh_principal_ensure(struct bh_db *db, const char *id, const char *kind,
    const char *cell, const uint8_t token_sha256[32], struct bh_error *err) BH_MUSTCHECK;

struct bh_usage_value {
    int32_t no;
    const char *meter;
    int64_t value; /* absolute, since the source's file epoch */
};

struct bh_usage_post {
    const char *source;
    uint64_t file_epoch;
    int64_t sampled_us;
    const char *server; /* NULL: an agent posts; else the database server that was read */
};

/**
 * bh_usage_add(db, post, values, count, err):
 * Add to each tenant's hour what grew since the last post of this source and
 * file epoch.  A lost or repeated post is harmless; a lower value than before
 * adds nothing.  An agent's unknown tenants: BH_E_INVALID, nothing is added; a
 * database server speaks for the tenants that it holds, the others are passed
 * over.  Unknown meters: BH_E_INVALID.
 */
enum bh_code bh_usage_add(struct bh_db *db, const struct bh_usage_post *post,
    const struct bh_usage_value *values, size_t count, struct bh_error *err) BH_MUSTCHECK;

struct bh_usage_row {
    const char *tenant; /* id */
    const char *meter;
    int64_t hour_us;
    int64_t value;
};

/** bh_usage_list(...): rows of living tenants in [from, to), by tenant, meter, hour; ${list}->after
 * is "<id> <meter> <hour µs>". */
enum bh_code bh_usage_list(struct bh_db *db, struct bh_arena *arena, const struct bh_list *list,
    const char *meter, int64_t from_us, int64_t to_us, struct bh_usage_row **ret_rows,
    size_t *ret_count, bool *ret_more, struct bh_error *err) BH_MUSTCHECK;

struct bh_key_epoch {
    int32_t epoch;
    int64_t not_before_s;
    int64_t not_after_s;
};

struct bh_cell_keys {
    struct bh_uid install;
    struct bh_uid cell;
    struct bh_key_epoch users[2]; /* newest first */
    size_t user_count;
    struct {
        const char *name;
        struct bh_uid uid;
        struct bh_key_epoch keys[4]; /* newest first */
        size_t key_count;
    } servers[64];
    size_t server_count;
};

/** bh_cell_keys_get(db, arena, cell, ret_keys, err): what is needed to derive the keys of ${cell}.
 */
enum bh_code bh_cell_keys_get(struct bh_db *db, struct bh_arena *arena, const char *cell,
    struct bh_cell_keys *ret_keys, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_install_ensure(db, seed, err):
 * First start: one install row, the cell, its server, its first shared database
 * and key epochs.  Later: brings endpoints up to date, else changes nothing.
 */
struct bh_install_seed {
    const char *cell;             /* "main" */
    const char *server;           /* "main" */
    const char *database;         /* "shared1" */
    const char *const *endpoints; /* NULL-terminated: of the application */
};
enum bh_code bh_install_ensure(
    struct bh_db *db, const struct bh_install_seed *seed, struct bh_error *err) BH_MUSTCHECK;

#endif
