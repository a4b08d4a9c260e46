#include "control/registry/change.h"
#include "control/registry/watch.h"

/* Whoever is at it now, or was killed at it, may not be the last to have looked. */
static const char wake_sql[] =
    "WITH clock AS (SELECT clock_timestamp() AS at), woken AS (UPDATE selfcheck SET"
    "  due_at = at + $2::bigint * interval '1 s',"
    "  claimed_at = NULL FROM clock WHERE $1::text IS NULL OR server IN (SELECT name FROM server WHERE cell = $1))"
    " SELECT " BH_SQL_US("at") " FROM clock";

enum bh_code
bh_selfcheck_wake(
    struct bh_db *db, const char *cell, int delay_s, int64_t *ret_asked_us, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err, wake_sql, cell, bh_number(delay_s).text));
    *ret_asked_us = bh_db_int(r, 0, 0);
    PQclear(r);
    return BH_OK;
}

static const char claim_sql[] =
    "UPDATE selfcheck c SET claimed_at = clock_timestamp()"
    " FROM server s, (SELECT d.server, d.database FROM selfcheck d JOIN server e ON e.name = d.server"
    "   JOIN server_watch w ON w.server = d.server"
    "  WHERE e.cell = $1 AND w.state <> 'down' AND d.due_at <= clock_timestamp()"
    "   AND (d.claimed_at IS NULL OR d.claimed_at < clock_timestamp() - interval '2 min')"
    "  ORDER BY d.due_at LIMIT 1 FOR UPDATE OF d SKIP LOCKED) due"
    " WHERE c.server = due.server AND c.database = due.database AND s.name = c.server"
    " RETURNING c.server, s.conninfo, c.database";

enum bh_code
bh_selfcheck_claim(struct bh_db *db, struct bh_arena *arena, const char *cell,
    struct bh_watched *ret_place, bool *ret_found, struct bh_error *err)
{
    PGresult *r;
    struct bh_watched place = {0};
    BH_TRY(bh_db_run(db, &r, err, claim_sql, cell));
    bool found = PQntuples(r) == 1;
    if (found)
        place = (struct bh_watched){
            bh_db_text(r, 0, 0, arena), bh_db_text(r, 0, 1, arena), bh_db_text(r, 0, 2, arena)};
    PQclear(r);
    if (found && (!place.server || !place.database))
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for a name");
    *ret_place = place;
    *ret_found = found;
    return BH_OK;
}

enum bh_code
bh_selfcheck_defer(
    struct bh_db *db, const struct bh_watched *place, int seconds, struct bh_error *err)
{
    return bh_db_run(db, NULL, err,
        "UPDATE selfcheck SET claimed_at = NULL,"
        " due_at = clock_timestamp() + $3::bigint * interval '1 s'"
        " WHERE server = $1 AND database = $2",
        place->server, place->database, bh_number(seconds).text);
}

static const char store_sql[] =
    "WITH found AS (SELECT DISTINCT ON (1, 2) coalesce(object, '?') AS object,"
    "  coalesce(problem, '?') AS problem, fix"
    "  FROM jsonb_to_recordset($3::jsonb) AS f (object text, problem text, fix text) ORDER BY 1, 2),"
    " gone AS (DELETE FROM finding f WHERE f.server = $1 AND f.database = $2 AND NOT EXISTS"
    "  (SELECT FROM found n WHERE n.object = f.object AND n.problem = f.problem) RETURNING f.*),"
    " fresh AS (INSERT INTO finding (server, database, object, problem, fix)"
    "  SELECT $1, $2, n.object, n.problem, n.fix FROM found n WHERE NOT EXISTS (SELECT FROM finding f"
    "   WHERE f.server = $1 AND f.database = $2 AND f.object = n.object AND f.problem = n.problem)"
    "  RETURNING *),"
    /* It is as of the claim: who asks for a check meanwhile gets another one. */
    " done AS (UPDATE selfcheck SET checked_at = claimed_at, claimed_at = NULL,"
    "  due_at = CASE WHEN due_at > claimed_at THEN due_at ELSE clock_timestamp() +"
    "   CASE WHEN EXISTS (SELECT FROM found) THEN interval '1 min' ELSE interval '1 day' END END"
    "  WHERE server = $1 AND database = $2 AND claimed_at IS NOT NULL)"
    " SELECT id, server, database, object, problem, fix, " BH_SQL_US(
        "found_at") ", gone FROM"
                    " (SELECT *, false AS gone FROM fresh UNION ALL SELECT *, true FROM gone) f ORDER BY id";

static enum bh_code
read_findings(const PGresult *r, int count, struct bh_arena *arena,
    struct bh_finding **ret_findings, struct bh_error *err)
{
    struct bh_finding *findings = bh_arena_zalloc(arena, (size_t)(count + 1) * sizeof(*findings));
    for (int i = 0; findings && i < count; i++) {
        findings[i] = (struct bh_finding){
            .id = bh_db_text(r, i, 0, arena),
            .server = bh_db_text(r, i, 1, arena),
            .database = bh_db_text(r, i, 2, arena),
            .object = bh_db_text(r, i, 3, arena),
            .problem = bh_db_text(r, i, 4, arena),
            .fix = bh_db_text(r, i, 5, arena),
            .found_us = bh_db_int(r, i, 6),
            .gone = PQgetvalue(r, i, 7)[0] == 't',
        };
        if (!findings[i].id || !findings[i].object || !findings[i].problem)
            findings = NULL;
    }
    if (!findings)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for findings");
    *ret_findings = findings;
    return BH_OK;
}

enum bh_code
bh_selfcheck_store(struct bh_db *db, struct bh_arena *arena, const struct bh_watched *place,
    const char *json, struct bh_finding **ret_changes, size_t *ret_count, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err, store_sql, place->server, place->database, json));
    *ret_count = (size_t)PQntuples(r);
    enum bh_code code = read_findings(r, PQntuples(r), arena, ret_changes, err);
    PQclear(r);
    return code;
}

static const char list_sql[] = "SELECT id, server, database, object, problem, fix, " BH_SQL_US(
    "found_at") ", false"
                " FROM finding WHERE ($1::text IS NULL OR server = $1) AND ($2::text IS NULL OR database = $2)"
                " AND ($3::bigint IS NULL OR id > $3::bigint) ORDER BY id LIMIT $4";

enum bh_code
bh_finding_list(struct bh_db *db, struct bh_arena *arena, const struct bh_list *list,
    const struct bh_watched *place, struct bh_finding **ret_findings, size_t *ret_count,
    bool *ret_more, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err, list_sql, place->server, place->database, list->after,
        bh_number(list->limit + 1).text));
    int rows = PQntuples(r);
    int count = rows > list->limit ? list->limit : rows;
    enum bh_code code = read_findings(r, count, arena, ret_findings, err);
    PQclear(r);
    BH_TRY(code);
    *ret_count = (size_t)count;
    *ret_more = rows > count;
    return BH_OK;
}
