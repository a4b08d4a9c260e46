/* What the registry knows of issuers and API keys; see registry.h. */
#ifndef BH_CONTROL_REGISTRY_CREDENTIAL_H
#define BH_CONTROL_REGISTRY_CREDENTIAL_H

#include "control/registry/registry.h"
#include "core/apikey.h"

/* ---- issuers (issuer.c) ---- */

struct bh_issuer_wish {
    const char *name;
    const char *settings; /* JSON object, checked; read-only members may be in it */
    const char *keys;     /* JWK set that is given; NULL: to be fetched */
};

/* An issuer, or an API key, as an answer shows it. */
struct bh_shown {
    const char *key; /* that a list is sorted by */
    const char *json;
};

/**
 * bh_issuer_put(db, arena, wish, ret_created, ret_json, err):
 * Make or replace an issuer and publish it.  Keys that were fetched stay while issuer and jwks_url
 * do.  BH_E_TOO_LARGE where its document would be.
 */
enum bh_code bh_issuer_put(struct bh_db *db, struct bh_arena *arena,
    const struct bh_issuer_wish *wish, bool *ret_created, const char **ret_json,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_issuer_get(db, arena, name, ret_json, err) / bh_issuer_list(…): by name; BH_E_NOT_FOUND. */
enum bh_code bh_issuer_get(struct bh_db *db, struct bh_arena *arena, const char *name,
    const char **ret_json, struct bh_error *err) BH_MUSTCHECK;
enum bh_code bh_issuer_list(struct bh_db *db, struct bh_arena *arena, const struct bh_list *list,
    struct bh_shown **ret_rows, size_t *ret_count, bool *ret_more,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_issuer_delete(db, name, err): BH_E_CONFLICT while a tier or tenant names it. */
enum bh_code bh_issuer_delete(
    struct bh_db *db, const char *name, struct bh_error *err) BH_MUSTCHECK;

/** bh_issuer_refresh(db, name, err): its keys are to be fetched now; BH_E_CONFLICT where they are
 * given. */
enum bh_code bh_issuer_refresh(
    struct bh_db *db, const char *name, struct bh_error *err) BH_MUSTCHECK;

/* An issuer whose keys are due. */
struct bh_issuer_due {
    const char *name;
    const char *issuer;
    const char *jwks_url; /* NULL: discover it */
    bool failed_before;
};

/** bh_issuer_claim(db, arena, ret_due, ret_found, err): the next one that is due, for a minute. */
enum bh_code bh_issuer_claim(struct bh_db *db, struct bh_arena *arena,
    struct bh_issuer_due *ret_due, bool *ret_found, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_issuer_fetched(db, due, keys, fresh_s, err) / bh_issuer_failed(db, due, detail, err):
 * Keep and publish what was fetched; or say why nothing was, keep the keys, and try again soon.
 * Nothing happens where the settings changed meanwhile.
 */
enum bh_code bh_issuer_fetched(struct bh_db *db, const struct bh_issuer_due *due, const char *keys,
    int64_t fresh_s, struct bh_error *err) BH_MUSTCHECK;
enum bh_code bh_issuer_failed(struct bh_db *db, const struct bh_issuer_due *due, const char *detail,
    struct bh_error *err) BH_MUSTCHECK;

/* ---- API keys (apikey.c) ---- */

#define BH_APIKEYS_MAX 1000 /* of one tenant */

struct bh_apikey_new {
    int32_t no;
    const char *cell;
    const char *prefix;
    const char *digest;   /* hexadecimal digits */
    const char *document; /* its name */
    const char *name;
    const char *sub;
    const char *scope;
    const char *roles; /* JSON array */
    int64_t ttl_s;     /* 0: without end */
};

/**
 * bh_apikey_add(db, arena, key, ret_json, err):
 * Keep and publish a key.  BH_E_CONFLICT where the tenant is not active (any more) or has
 * BH_APIKEYS_MAX.
 */
enum bh_code bh_apikey_add(struct bh_db *db, struct bh_arena *arena,
    const struct bh_apikey_new *key, const char **ret_json, struct bh_error *err) BH_MUSTCHECK;

/** bh_apikey_list(db, arena, no, list, …): of one tenant by id, that is by age. */
enum bh_code bh_apikey_list(struct bh_db *db, struct bh_arena *arena, int32_t no,
    const struct bh_list *list, struct bh_shown **ret_rows, size_t *ret_count, bool *ret_more,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_apikey_delete(db, no, id, err): revoke; BH_E_NOT_FOUND. */
enum bh_code bh_apikey_delete(
    struct bh_db *db, int32_t no, const char *id, struct bh_error *err) BH_MUSTCHECK;

/** bh_apikey_sweep(db, ret_count, err): revoke the keys of tenants that are gone, some at a time.
 */
enum bh_code bh_apikey_sweep(
    struct bh_db *db, int64_t *ret_count, struct bh_error *err) BH_MUSTCHECK;

/** bh_shown_take(result, list, arena, …): rows of key and json; PQclears ${result}. */
enum bh_code bh_shown_take(PGresult *result, const struct bh_list *list, struct bh_arena *arena,
    struct bh_shown **ret_rows, size_t *ret_count, bool *ret_more,
    struct bh_error *err) BH_MUSTCHECK;

#endif
