#include "control/registry/change.h"
#include "control/registry/credential.h"

#define SHOWN                                                                                                                                        \
    "(i.settings || jsonb_build_object('name', i.name, 'generation', i.generation, 'status',"                                                        \
    " jsonb_build_object('keys', (SELECT coalesce(jsonb_agg(jsonb_build_object('kid', k->'kid',"                                                     \
    "  'kty', k->'kty')), '[]') FROM jsonb_array_elements(i.keys->'keys') k), 'fetched_at', " BH_SQL_TIME(                                           \
        "i.fetched_at") ", 'next_fetch_at', " BH_SQL_TIME("i.next_at") ", 'error', i.error),"                                                        \
                                                                       " 'created_at', " BH_SQL_TIME("i.created_at") ", 'updated_at', " BH_SQL_TIME( \
                                                                           "i.updated_at") "))::text"

/* What the edge reads (core/issuer.h). */
#define BODY                                                                                       \
    "((i.settings - '{jwks_url,keys}'::text[]) || CASE WHEN i.keys IS NULL THEN '{}'"              \
    " ELSE jsonb_build_object('keys', i.keys) END)::text"

static const char put_sql[] =
    "INSERT INTO issuer AS i (name, settings, keys, next_at)"
    " SELECT $1, s, $3::jsonb, CASE WHEN $3 IS NULL THEN now() END"
    " FROM (SELECT $2::jsonb - '{name,generation,status,created_at,updated_at}'::text[]) AS x (s)"
    " ON CONFLICT (name) DO UPDATE SET settings = excluded.settings, error = NULL, failures = 0,"
    " keys = CASE WHEN excluded.keys IS NOT NULL THEN excluded.keys"
    "  WHEN i.next_at IS NULL OR (i.settings->'issuer', i.settings->'jwks_url')"
    "   IS DISTINCT FROM (excluded.settings->'issuer', excluded.settings->'jwks_url') THEN NULL"
    "  ELSE i.keys END,"
    " fetched_at = CASE WHEN excluded.keys IS NULL THEN i.fetched_at END,"
    " next_at = excluded.next_at,"
    " generation = i.generation + (i.settings <> excluded.settings)::int, updated_at = now()"
    " RETURNING xmax = 0, " SHOWN ", " BODY;

static enum bh_code
publish(
    struct bh_db *db, const char *name, const char *body, int64_t *ret_seq, struct bh_error *err)
{
    char document[BH_FEED_NAME_MAX + 1];
    (void)snprintf(document, sizeof(document), "issuer/%s", name);
    const struct bh_feed_document what = {.name = document, .body = body};
    return bh_feed_document_append(db, &what, ret_seq, err);
}

static enum bh_code
put(struct bh_db *db, struct bh_arena *arena, const struct bh_issuer_wish *wish, bool *ret_created,
    const char **ret_json, struct bh_error *err)
{
    PGresult *r;
    int64_t seq;
    BH_TRY(bh_db_run(db, &r, err, put_sql, wish->name, wish->settings, wish->keys));
    *ret_created = PQgetvalue(r, 0, 0)[0] == 't';
    *ret_json = bh_db_text(r, 0, 1, arena);
    const char *body = bh_db_text(r, 0, 2, arena);
    PQclear(r);
    if (*ret_json == NULL || body == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for an issuer");
    return publish(db, wish->name, body, &seq, err);
}

enum bh_code
bh_issuer_put(struct bh_db *db, struct bh_arena *arena, const struct bh_issuer_wish *wish,
    bool *ret_created, const char **ret_json, struct bh_error *err)
{
    BH_TRY(bh_db_begin(db, err));
    return bh_db_finish(db, put(db, arena, wish, ret_created, ret_json, err), err);
}

static enum bh_code
unknown(const char *name, struct bh_error *err)
{
    (void)bh_fail(err, BH_E_NOT_FOUND, "no issuer has the name %s", name);
    return bh_hint(err, "list them with: bulkhead issuer list");
}

enum bh_code
bh_issuer_get(struct bh_db *db, struct bh_arena *arena, const char *name, const char **ret_json,
    struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err, "SELECT " SHOWN " FROM issuer i WHERE name = $1", name));
    bool found = PQntuples(r) == 1;
    *ret_json = found ? bh_db_text(r, 0, 0, arena) : NULL;
    PQclear(r);
    if (!found)
        return unknown(name, err);
    return *ret_json == NULL ? bh_fail(err, BH_E_NO_MEMORY, "no memory for an issuer") : BH_OK;
}

enum bh_code
bh_shown_take(PGresult *result, const struct bh_list *list, struct bh_arena *arena,
    struct bh_shown **ret_rows, size_t *ret_count, bool *ret_more, struct bh_error *err)
{
    size_t count = (size_t)PQntuples(result);
    *ret_more = count > (size_t)list->limit;
    *ret_count = *ret_more ? (size_t)list->limit : count;
    struct bh_shown *rows = bh_arena_zalloc(arena, (*ret_count + 1) * sizeof(*rows));
    bool ok = rows != NULL;
    for (size_t i = 0; ok && i < *ret_count; i++) {
        rows[i] = (struct bh_shown){
            bh_db_text(result, (int)i, 0, arena), bh_db_text(result, (int)i, 1, arena)};
        ok = rows[i].key != NULL && rows[i].json != NULL;
    }
    PQclear(result);
    *ret_rows = rows;
    return ok ? BH_OK : bh_fail(err, BH_E_NO_MEMORY, "no memory for a list");
}

enum bh_code
bh_issuer_list(struct bh_db *db, struct bh_arena *arena, const struct bh_list *list,
    struct bh_shown **ret_rows, size_t *ret_count, bool *ret_more, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT name, " SHOWN " FROM issuer i WHERE $1::text IS NULL OR name > $1 ORDER BY name"
        " LIMIT $2::int + 1",
        list->after, bh_number(list->limit).text));
    return bh_shown_take(r, list, arena, ret_rows, ret_count, ret_more, err);
}

static const char users_sql[] =
    "SELECT 'tier ' || name FROM tier WHERE edge->'issuers' ? $1 UNION ALL"
    " SELECT 'tenant ' || id FROM tenant WHERE edge->'issuers' ? $1 AND state <> 'gone' LIMIT 1";

static enum bh_code delete (struct bh_db *db, const char *name, struct bh_error *err) {
    PGresult *r; int64_t seq; BH_TRY(bh_db_run(db, &r, err, users_sql, name));
    if (PQntuples(r) > 0){
        (void)bh_fail(err, BH_E_CONFLICT, "%s names the issuer %s", PQgetvalue(r, 0, 0), name);
        PQclear(r); return bh_hint(err, "take it out of its edge settings first");}
PQclear(r);
BH_TRY(bh_db_run(db, &r, err, "DELETE FROM issuer WHERE name = $1 RETURNING 1", name));
bool found = PQntuples(r) == 1;
PQclear(r);
return found ? publish(db, name, NULL, &seq, err) : unknown(name, err);
}

enum bh_code
bh_issuer_delete(struct bh_db *db, const char *name, struct bh_error *err)
{
    BH_TRY(bh_db_begin(db, err));
    return bh_db_finish(db, delete (db, name, err), err);
}

enum bh_code
bh_issuer_refresh(struct bh_db *db, const char *name, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err,
        "UPDATE issuer SET next_at = CASE WHEN next_at IS NULL THEN NULL ELSE now() END"
        " WHERE name = $1 RETURNING next_at",
        name));
    bool found = PQntuples(r) == 1;
    bool given = found && bh_db_null(r, 0, 0);
    PQclear(r);
    if (!found)
        return unknown(name, err);
    return given ? bh_fail(err, BH_E_CONFLICT, "the keys of issuer %s are given, not fetched", name)
                 : BH_OK;
}

/* ---- fetching ---- */

static const char claim_sql[] =
    "UPDATE issuer SET next_at = clock_timestamp() + interval '60 s' WHERE name ="
    " (SELECT name FROM issuer WHERE next_at <= clock_timestamp() ORDER BY next_at LIMIT 1"
    "  FOR UPDATE SKIP LOCKED)"
    " RETURNING name, settings->>'issuer', settings->>'jwks_url', error IS NOT NULL";

enum bh_code
bh_issuer_claim(struct bh_db *db, struct bh_arena *arena, struct bh_issuer_due *ret_due,
    bool *ret_found, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err, claim_sql));
    *ret_found = PQntuples(r) == 1;
    if (*ret_found)
        *ret_due = (struct bh_issuer_due){bh_db_text(r, 0, 0, arena), bh_db_text(r, 0, 1, arena),
            bh_db_text(r, 0, 2, arena), PQgetvalue(r, 0, 3)[0] == 't'};
    PQclear(r);
    return *ret_found && (ret_due->name == NULL || ret_due->issuer == NULL)
               ? bh_fail(err, BH_E_NO_MEMORY, "no memory for an issuer")
               : BH_OK;
}

#define SAME                                                                                       \
    " WHERE i.name = $1 AND i.settings->>'issuer' = $2 AND i.settings->>'jwks_url'"                \
    " IS NOT DISTINCT FROM $3 AND i.next_at IS NOT NULL"

static const char fetched_sql[] =
    "UPDATE issuer i SET keys = $4::jsonb, fetched_at = clock_timestamp(), error = NULL,"
    " failures = 0, next_at = clock_timestamp() + $5::bigint * interval '1 s'" SAME
    " RETURNING " BODY;

static enum bh_code
fetched(struct bh_db *db, const struct bh_issuer_due *due, const char *keys, int64_t fresh_s,
    struct bh_error *err)
{
    PGresult *r;
    int64_t seq;
    BH_TRY(bh_db_run(db, &r, err, fetched_sql, due->name, due->issuer, due->jwks_url, keys,
        bh_number(fresh_s).text));
    enum bh_code code = BH_OK;
    if (PQntuples(r) == 1)
        code = publish(db, due->name, PQgetvalue(r, 0, 0), &seq, err);
    PQclear(r);
    return code;
}

enum bh_code
bh_issuer_fetched(struct bh_db *db, const struct bh_issuer_due *due, const char *keys,
    int64_t fresh_s, struct bh_error *err)
{
    BH_TRY(bh_db_begin(db, err));
    return bh_db_finish(db, fetched(db, due, keys, fresh_s, err), err);
}

enum bh_code
bh_issuer_failed(
    struct bh_db *db, const struct bh_issuer_due *due, const char *detail, struct bh_error *err)
{
    return bh_db_run(db, NULL, err,
        "UPDATE issuer i SET error = $4, failures = failures + 1, next_at = clock_timestamp()"
        " + least(300, 2 * 2 ^ least(failures, 8)) * interval '1 s'" SAME,
        due->name, due->issuer, due->jwks_url, detail);
}
