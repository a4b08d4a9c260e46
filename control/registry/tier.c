/* Tiers: what they say to the edge, and what tenants lay over it. */
#include "control/registry/registry.h"

#include <stdio.h>
#include <string.h>

#include "control/registry/change.h"
#include "core/policy.h"

#define COLUMNS "name, edge, generation, " BH_SQL_US("created_at") ", " BH_SQL_US("updated_at")

static enum bh_code
read_row(const PGresult *r, int row, struct bh_arena *arena, struct bh_tier *ret_tier,
    struct bh_error *err)
{
    *ret_tier = (struct bh_tier){
        .name = bh_db_text(r, row, 0, arena),
        .edge = bh_db_text(r, row, 1, arena),
        .generation = bh_db_int(r, row, 2),
        .created_us = bh_db_int(r, row, 3),
        .updated_us = bh_db_int(r, row, 4),
    };
    if (ret_tier->name && ret_tier->edge)
        return BH_OK;
    return bh_fail(err, BH_E_NO_MEMORY, "no memory for a tier");
}

void
bh_tier_etag(const struct bh_tier *tier, char ret_etag[80])
{
    snprintf(ret_etag, 80, "\"%s.%lld\"", tier->name, (long long)tier->generation);
}

enum bh_code
bh_tier_get(struct bh_db *db, struct bh_arena *arena, const char *name, struct bh_tier *ret_tier,
    struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err, "SELECT " COLUMNS " FROM tier WHERE name = $1", name));
    bool found = PQntuples(r) == 1;
    enum bh_code code = found ? read_row(r, 0, arena, ret_tier, err) : BH_OK;
    PQclear(r);
    if (found)
        return code;
    bh_fail(err, BH_E_NOT_FOUND, "there is no tier %s", name);
    return bh_hint(err, "list them with: bulkhead get tiers");
}

enum bh_code
bh_tier_list(struct bh_db *db, struct bh_arena *arena, const struct bh_list *list,
    struct bh_tier **ret_tiers, size_t *ret_count, bool *ret_more, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT " COLUMNS " FROM tier WHERE $1::text IS NULL OR name > $1 ORDER BY name LIMIT $2",
        list->after, bh_number(list->limit + 1).text));
    int rows = PQntuples(r);
    int count = rows > list->limit ? list->limit : rows;
    struct bh_tier *tiers = bh_arena_zalloc(arena, (size_t)(count + 1) * sizeof(*tiers));
    enum bh_code code = tiers ? BH_OK : bh_fail(err, BH_E_NO_MEMORY, "no memory for a list");
    for (int i = 0; code == BH_OK && i < count; i++)
        code = read_row(r, i, arena, &tiers[i], err);
    PQclear(r);
    BH_TRY(code);
    *ret_tiers = tiers;
    *ret_count = (size_t)count;
    *ret_more = rows > count;
    return BH_OK;
}

/* ---- what a tenant lays over its tier ---- */

/* Is ${text} a policy that an edge can use? */
static enum bh_code
check_policy(const char *text, struct bh_error *err)
{
    struct bh_chunks chunks;
    struct bh_policy policy;
    size_t len = strlen(text);
    if (len > BH_FEED_BODY_MAX)
        return bh_fail_at(
            err, BH_E_INVALID, "", "has %zu bytes, and an edge takes %d", len, BH_FEED_BODY_MAX);
    bh_chunks_init(&chunks);
    enum bh_code code = bh_policy_parse(bh_str_of(text), &chunks.arena, &policy, err);
    bh_chunks_fini(&chunks);
    return code;
}

/* Does the object ${text} state the member that ${pointer} lies in? */
static bool
states(const char *text, const char *pointer)
{
    struct bh_chunks chunks;
    struct bh_json *value;
    struct bh_str name = {pointer, 0};
    if (pointer[0] == '/')
        name = (struct bh_str){pointer + 1, strcspn(pointer + 1, "/")};
    bh_chunks_init(&chunks);
    bool stated =
        bh_json_parse(bh_str_of(text), BH_JSON_DEPTH, &chunks.arena, &value, NULL) == BH_OK &&
        bh_json_member(value, name) != NULL;
    bh_chunks_fini(&chunks);
    return stated;
}

/* At its place where the tenant states it, else at `/edge`, saying that the tier has a part in it.
 */
static enum bh_code
refuse_layers(const char *name, const char *edge, const struct bh_error *why, struct bh_error *err)
{
    char pointer[BH_POINTER_MAX];
    if (states(edge, why->pointer)) {
        snprintf(pointer, sizeof(pointer), "/edge%.*s", BH_POINTER_MAX - 6, why->pointer);
        return bh_fail_at(err, BH_E_INVALID, pointer, "%s", why->detail);
    }
    return bh_fail_at(err, BH_E_INVALID, "/edge", "does not fit what tier %s says: %s %s", name,
        why->pointer[0] ? why->pointer : "together it", why->detail);
}

static enum bh_code
refuse_unknown(struct bh_db *db, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT string_agg(name, ', ') FROM (SELECT name FROM tier ORDER BY name LIMIT 20) t"));
    bh_fail_at(err, BH_E_INVALID, "/tier", "is no tier; known: %s", PQgetvalue(r, 0, 0));
    PQclear(r);
    return bh_hint(err, "list them with: bulkhead get tiers");
}

enum bh_code
bh_tier_check(struct bh_db *db, const char *name, const char *edge, struct bh_error *err)
{
    PGresult *r;
    struct bh_error why;
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT (edge || $2::jsonb)::text FROM tier WHERE name = $1 FOR SHARE", name, edge));
    bool found = PQntuples(r) == 1;
    enum bh_code code = found ? check_policy(PQgetvalue(r, 0, 0), &why) : BH_OK;
    PQclear(r);
    if (!found)
        return refuse_unknown(db, err);
    return code == BH_OK ? BH_OK : refuse_layers(name, edge, &why, err);
}

enum bh_code
bh_tenant_policy(struct bh_db *db, struct bh_arena *arena, int32_t no, const char **ret_text,
    struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT (r.edge || t.edge)::text FROM tenant t JOIN tier r ON r.name = t.tier"
        " WHERE t.no = $1",
        bh_number(no).text));
    *ret_text = PQntuples(r) == 1 ? bh_db_text(r, 0, 0, arena) : NULL;
    PQclear(r);
    return *ret_text ? BH_OK : bh_fail(err, BH_E_INTERNAL, "no policy of tenant number %d", no);
}

/* ---- put ---- */

/* Tenants that state something themselves: what they and the tier now make must be right. */
static enum bh_code
check_tenants(struct bh_db *db, const char *name, struct bh_error *err)
{
    PGresult *r;
    struct bh_error why;
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT t.id, (r.edge || t.edge)::text FROM tenant t JOIN tier r ON r.name = t.tier"
        " WHERE t.tier = $1 AND t.edge <> '{}' AND t.state <> 'gone' ORDER BY t.id",
        name));
    enum bh_code code = BH_OK;
    for (int i = 0; code == BH_OK && i < PQntuples(r); i++)
        if (check_policy(PQgetvalue(r, i, 1), &why) != BH_OK) {
            bh_fail(err, BH_E_CONFLICT,
                "tenant %s of this tier would have a policy that is wrong: %s %s",
                PQgetvalue(r, i, 0), why.pointer[0] ? why.pointer : "it", why.detail);
            code = bh_hint(
                err, "change its settings first: bulkhead get tenant %s", PQgetvalue(r, i, 0));
        }
    PQclear(r);
    return code;
}

/* Those whose own policy the edges have; the others get theirs with their record. */
static const char tenants_sql[] =
    "WITH own AS (SELECT 'policy/t' || t.no AS document, t.cell, (r.edge || t.edge)::text AS body,"
    "   row_number() OVER (ORDER BY t.no) AS place"
    "  FROM tenant t JOIN tier r ON r.name = t.tier CROSS JOIN LATERAL"
    "   (SELECT f.body FROM feed f WHERE f.document = 'policy/t' || t.no"
    "    AND f.cell = t.cell ORDER BY f.seq DESC LIMIT 1) last"
    "  WHERE t.tier = $1 AND t.edge <> '{}' AND t.state <> 'gone' AND last.body IS NOT NULL),"
    " head AS (UPDATE feed_head SET seq = seq + (SELECT count(*) FROM own)"
    "  WHERE EXISTS (SELECT FROM own) RETURNING seq),"
    " added AS (INSERT INTO feed (seq, cell, version, document, body)"
    "  SELECT h.seq - c.count + o.place, o.cell, h.seq - c.count + o.place, o.document, o.body"
    "  FROM own o CROSS JOIN head h CROSS JOIN (SELECT count(*) FROM own) c RETURNING seq)"
    " SELECT pg_notify('bulkhead_feed', max(seq)::text) FROM added HAVING count(*) > 0";

static enum bh_code
publish(struct bh_db *db, const char *name, struct bh_error *err)
{
    char document[sizeof("policy/") + 64];
    PGresult *r;
    int64_t seq;
    snprintf(document, sizeof(document), "policy/%s", name);
    BH_TRY(bh_db_run(db, &r, err, "SELECT edge FROM tier WHERE name = $1", name));
    const struct bh_feed_document policy = {.name = document, .body = PQgetvalue(r, 0, 0)};
    enum bh_code code = bh_feed_document_append(db, &policy, &seq, err);
    PQclear(r);
    BH_TRY(code);
    return bh_db_run(db, NULL, err, tenants_sql, name);
}

/* What is there, held until the end, and whether it is what is wished. */
static enum bh_code
look(struct bh_db *db, struct bh_arena *arena, const struct bh_tier_wish *wish, bool *ret_found,
    bool *ret_same, struct bh_tier *ret_tier, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(
        bh_db_run(db, NULL, err, "SELECT pg_advisory_xact_lock(7473, hashtext($1))", wish->name));
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT " COLUMNS ", edge = $2::jsonb FROM tier WHERE name = $1 FOR NO KEY UPDATE",
        wish->name, wish->edge));
    *ret_found = PQntuples(r) == 1;
    *ret_same = *ret_found && PQgetvalue(r, 0, 5)[0] == 't';
    enum bh_code code = *ret_found ? read_row(r, 0, arena, ret_tier, err) : BH_OK;
    PQclear(r);
    return code;
}

static enum bh_code
check_conditions(const struct bh_tier_wish *wish, const struct bh_tier *tier, struct bh_error *err)
{
    char etag[80];
    if (!tier && wish->if_match)
        return bh_fail(
            err, BH_E_PRECONDITION, "If-Match was given, and there is no tier %s", wish->name);
    if (tier && wish->create_only)
        return bh_fail(err, BH_E_PRECONDITION, "tier %s exists already", tier->name);
    if (!tier || !wish->if_match || strcmp(wish->if_match, "*") == 0)
        return BH_OK;
    bh_tier_etag(tier, etag);
    if (strcmp(wish->if_match, etag) == 0)
        return BH_OK;
    return bh_fail(err, BH_E_PRECONDITION, "tier %s has changed since: it is at generation %lld",
        tier->name, (long long)tier->generation);
}

static const char upsert_sql[] =
    "INSERT INTO tier (name, edge) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE"
    " SET edge = excluded.edge, generation = tier.generation + 1, updated_at = clock_timestamp()";

static enum bh_code
put_locked(struct bh_db *db, struct bh_arena *arena, const struct bh_tier_wish *wish,
    struct bh_tier *ret_tier, enum bh_change *ret_change, struct bh_error *err)
{
    bool found, same;
    BH_TRY(look(db, arena, wish, &found, &same, ret_tier, err));
    BH_TRY(check_conditions(wish, found ? ret_tier : NULL, err));
    *ret_change = same ? BH_CHANGE_NONE : found ? BH_CHANGE_UPDATED : BH_CHANGE_CREATED;
    if (same)
        return BH_OK;
    BH_TRY(bh_db_run(db, NULL, err, upsert_sql, wish->name, wish->edge));
    BH_TRY(check_tenants(db, wish->name, err));
    BH_TRY(bh_tier_get(db, arena, wish->name, ret_tier, err));
    return publish(db, wish->name, err);
}

enum bh_code
bh_tier_put(struct bh_db *db, struct bh_arena *arena, const struct bh_tier_wish *wish,
    struct bh_tier *ret_tier, enum bh_change *ret_change, struct bh_error *err)
{
    BH_TRY(bh_db_begin(db, err));
    enum bh_code code = put_locked(db, arena, wish, ret_tier, ret_change, err);
    if (code == BH_OK)
        return bh_db_commit(db, err);
    bh_db_rollback(db);
    return code;
}
