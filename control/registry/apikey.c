#include "control/registry/change.h"
#include "control/registry/credential.h"

#define SHOWN                                                                                      \
    "jsonb_build_object('id', k.id, 'name', k.name, 'prefix', k.prefix, 'sub', k.sub, 'scope',"    \
    " k.scope, 'roles', k.roles, 'created_at', " BH_SQL_TIME(                                      \
        "k.created_at") ", 'expires_at', " BH_SQL_TIME("k.not_after") ")::text"

/* What the edge reads (core/apikey.h); ${epoch}: SQL. */
#define BODY(epoch)                                                                                     \
    "(jsonb_build_object('no', k.no, 'sub', k.sub, 'scope', k.scope, 'roles', k.roles, 'epoch', " epoch \
    ") || CASE WHEN k.not_after IS NULL THEN '{}' ELSE jsonb_build_object('not_after',"                 \
    " floor(extract(epoch FROM k.not_after))::bigint) END)::text"

static const char tenant_sql[] =
    "SELECT state, cell, (SELECT count(*) FROM api_key k WHERE k.no = t.no) FROM tenant t"
    " WHERE no = $1 FOR UPDATE";

static const char add_sql[] =
    "INSERT INTO api_key AS k (id, no, name, prefix, digest, cell, document, sub, scope, roles,"
    " not_after) VALUES ($1, $2, $3, $4, decode($5, 'hex'), $6, $7, $8, $9, $10::jsonb,"
    " CASE WHEN $11::bigint > 0 THEN date_trunc('second', now()) + $11::bigint * interval '1 s' END)"
    " RETURNING " SHOWN ", " BODY("(SELECT t.epoch FROM tenant t WHERE t.no = k.no)");

static enum bh_code
check_tenant(struct bh_db *db, const struct bh_apikey_new *key, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err, tenant_sql, bh_number(key->no).text));
    const char *state = PQntuples(r) == 1 ? PQgetvalue(r, 0, 0) : "gone";
    enum bh_code code = BH_OK;
    if (strcmp(state, "active") != 0)
        code = bh_fail(
            err, BH_E_CONFLICT, "the tenant is %s, and only an active one gets keys", state);
    else if (strcmp(PQgetvalue(r, 0, 1), key->cell) != 0)
        code = bh_fail(err, BH_E_CONFLICT, "the tenant has moved to another cell; try again");
    else if (bh_db_int(r, 0, 2) >= BH_APIKEYS_MAX)
        code = bh_fail(err, BH_E_CONFLICT,
            "the tenant has %d API keys, more than that nobody can survey", BH_APIKEYS_MAX);
    PQclear(r);
    return code;
}

static enum bh_code
add(struct bh_db *db, struct bh_arena *arena, const struct bh_apikey_new *key,
    const char **ret_json, struct bh_error *err)
{
    PGresult *r;
    int64_t seq;
    char id[BH_KEY_ID];
    BH_TRY(check_tenant(db, key, err));
    BH_TRY(bh_key_id_new(id, err));
    BH_TRY(bh_db_run(db, &r, err, add_sql, id, bh_number(key->no).text, key->name, key->prefix,
        key->digest, key->cell, key->document, key->sub, key->scope, key->roles,
        bh_number(key->ttl_s).text));
    *ret_json = bh_db_text(r, 0, 0, arena);
    const struct bh_feed_document document = {
        .name = key->document, .cell = key->cell, .body = PQgetvalue(r, 0, 1)};
    enum bh_code code = *ret_json == NULL ? bh_fail(err, BH_E_NO_MEMORY, "no memory for an API key")
                                          : bh_feed_document_append(db, &document, &seq, err);
    PQclear(r);
    return code;
}

enum bh_code
bh_apikey_add(struct bh_db *db, struct bh_arena *arena, const struct bh_apikey_new *key,
    const char **ret_json, struct bh_error *err)
{
    BH_TRY(bh_db_begin(db, err));
    return bh_db_finish(db, add(db, arena, key, ret_json, err), err);
}

enum bh_code
bh_apikey_list(struct bh_db *db, struct bh_arena *arena, int32_t no, const struct bh_list *list,
    struct bh_shown **ret_rows, size_t *ret_count, bool *ret_more, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT k.id, " SHOWN " FROM api_key k WHERE k.no = $1 AND ($2::text IS NULL OR k.id > $2)"
        " ORDER BY k.id LIMIT $3::int + 1",
        bh_number(no).text, list->after, bh_number(list->limit).text));
    return bh_shown_take(r, list, arena, ret_rows, ret_count, ret_more, err);
}

/* Tombstones of the keys that ${r} names: document and cell in each row; PQclears it. */
static enum bh_code
revoke(struct bh_db *db, PGresult *r, struct bh_error *err)
{
    enum bh_code code = BH_OK;
    int64_t seq;
    for (int i = 0; code == BH_OK && i < PQntuples(r); i++) {
        const struct bh_feed_document document = {
            .name = PQgetvalue(r, i, 0), .cell = PQgetvalue(r, i, 1), .body = NULL};
        code = bh_feed_document_append(db, &document, &seq, err);
    }
    PQclear(r);
    return code;
}

static enum bh_code delete (struct bh_db *db, int32_t no, const char *id, struct bh_error *err) {
    PGresult *r; BH_TRY(bh_db_run(db, &r, err,
        "DELETE FROM api_key WHERE no = $1 AND id = $2 RETURNING document, cell",
        bh_number(no).text, id));
    if (PQntuples(r) == 0){PQclear(r);
                           return bh_fail(err, BH_E_NOT_FOUND, "the tenant has no API key %s", id);}
return revoke(db, r, err);
}

enum bh_code
bh_apikey_delete(struct bh_db *db, int32_t no, const char *id, struct bh_error *err)
{
    BH_TRY(bh_db_begin(db, err));
    return bh_db_finish(db, delete (db, no, id, err), err);
}

static enum bh_code
sweep(struct bh_db *db, int64_t *ret_count, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err,
        "DELETE FROM api_key WHERE id IN (SELECT k.id FROM api_key k JOIN tenant t USING (no)"
        " WHERE t.state = 'gone' LIMIT 500 FOR UPDATE OF k SKIP LOCKED) RETURNING document, cell"));
    *ret_count = PQntuples(r);
    return revoke(db, r, err);
}

enum bh_code
bh_apikey_sweep(struct bh_db *db, int64_t *ret_count, struct bh_error *err)
{
    BH_TRY(bh_db_begin(db, err));
    return bh_db_finish(db, sweep(db, ret_count, err), err);
}
