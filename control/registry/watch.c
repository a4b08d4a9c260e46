#include "control/registry/watch.h"

#include "control/registry/change.h"

/* ---- which ---- */

/* Rows of databases that hold tenants, or may; those of others go, and their findings with them. */
static const char rows_sql[] =
    "WITH place AS (SELECT p.* FROM (SELECT server, name FROM shared_database"
    "   UNION SELECT server, database FROM tenant WHERE database IS NOT NULL AND state <> 'gone')"
    "   AS p (server, database) JOIN server s ON s.name = p.server WHERE s.cell = $1),"
    " lease AS (INSERT INTO server_watch (server) SELECT name FROM server WHERE cell = $1"
    "  ON CONFLICT DO NOTHING),"
    " away AS (DELETE FROM selfcheck c USING server s WHERE s.name = c.server AND s.cell = $1"
    "  AND NOT EXISTS (SELECT FROM place p WHERE p.server = c.server AND p.database = c.database))"
    " INSERT INTO selfcheck (server, database) SELECT server, database FROM place"
    " ON CONFLICT DO NOTHING";

static const char servers_sql[] =
    "SELECT s.name, s.conninfo, (SELECT min(c.database) FROM selfcheck c WHERE c.server = s.name)"
    " FROM server s WHERE s.cell = $1 ORDER BY s.name";

enum bh_code
bh_watched_list(struct bh_db *db, struct bh_arena *arena, const char *cell,
    struct bh_watched **ret_servers, size_t *ret_count, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, NULL, err, rows_sql, cell));
    BH_TRY(bh_db_run(db, &r, err, servers_sql, cell));
    size_t count = (size_t)PQntuples(r);
    struct bh_watched *servers = bh_arena_zalloc(arena, (count + 1) * sizeof(*servers));
    for (size_t i = 0; servers && i < count; i++)
        servers[i] = (struct bh_watched){bh_db_text(r, (int)i, 0, arena),
            bh_db_text(r, (int)i, 1, arena), bh_db_text(r, (int)i, 2, arena)};
    PQclear(r);
    if (!servers)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for %zu servers", count);
    *ret_servers = servers;
    *ret_count = count;
    return BH_OK;
}

/* ---- who ---- */

/* Leases live by the registry's clock alone. */
static const char take_sql[] =
    "UPDATE server_watch SET owner = $2,"
    " lease_until = clock_timestamp() + $3::bigint * interval '1 ms'"
    " WHERE server = $1 AND (owner = $2 OR lease_until IS NULL OR lease_until < clock_timestamp())"
    " RETURNING audit_epoch, audit_seq, audit_suppressed + audit_unattributed";

enum bh_code
bh_watch_take(struct bh_db *db, const char *server, const char *owner, int lease_ms,
    struct bh_watch_lease *ret_lease, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err, take_sql, server, owner, bh_number(lease_ms).text));
    *ret_lease = (struct bh_watch_lease){.held = PQntuples(r) == 1};
    if (ret_lease->held) {
        ret_lease->ring_known = !bh_db_null(r, 0, 0);
        ret_lease->ring_epoch = bh_db_int(r, 0, 0);
        ret_lease->ring_seq = bh_db_int(r, 0, 1);
        ret_lease->ring_told = bh_db_int(r, 0, 2);
    }
    PQclear(r);
    return BH_OK;
}

enum bh_code
bh_watch_release(struct bh_db *db, const char *server, const char *owner, struct bh_error *err)
{
    return bh_db_run(db, NULL, err,
        "UPDATE server_watch SET lease_until = NULL, owner = NULL"
        " WHERE server = $1 AND owner = $2",
        server, owner);
}

/* ---- how ---- */

enum bh_code
bh_watch_report(
    struct bh_db *db, const char *server, const struct bh_watch_state *state, struct bh_error *err)
{
    return bh_db_run(db, NULL, err,
        "UPDATE server_watch SET state = $2, message = $3, extension = coalesce($4, extension),"
        " changed_at = CASE WHEN state = $2 THEN changed_at ELSE clock_timestamp() END,"
        " read_at = CASE WHEN $2 = 'down' THEN read_at ELSE clock_timestamp() END"
        " WHERE server = $1",
        server, state->state, state->message, state->extension);
}

/* Who has not prolonged its lease for a while may be gone, and what it said last is old. */
static const char list_sql[] =
    "SELECT s.name, s.cell, CASE WHEN w.lease_until > clock_timestamp() - interval '15 s'"
    "  THEN w.state ELSE 'unknown' END, w.message, w.extension, " BH_SQL_US("w.changed_at") ", " BH_SQL_US(
        "w.read_at") ", coalesce((SELECT jsonb_agg(jsonb_build_object('name', c.database,"
                     "  'checked_at', to_char(c.checked_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'),"
                     "  'findings', (SELECT count(*) FROM finding f WHERE f.server = c.server"
                     "   AND f.database = c.database)) ORDER BY c.database)"
                     "  FROM selfcheck c WHERE c.server = s.name), '[]')"
                     " FROM server s LEFT JOIN server_watch w ON w.server = s.name"
                     " WHERE ($1::text IS NULL OR s.name > $1 COLLATE \"C\") ORDER BY s.name COLLATE \"C\" LIMIT $2";

static void
read_row(const PGresult *r, int row, struct bh_arena *arena, struct bh_server_row *ret_row)
{
    *ret_row = (struct bh_server_row){
        .name = bh_db_text(r, row, 0, arena),
        .cell = bh_db_text(r, row, 1, arena),
        .state = bh_db_text(r, row, 2, arena),
        .message = bh_db_text(r, row, 3, arena),
        .extension = bh_db_text(r, row, 4, arena),
        .changed_us = bh_db_int(r, row, 5),
        .read_us = bh_db_int(r, row, 6),
        .databases = bh_db_text(r, row, 7, arena),
    };
}

enum bh_code
bh_server_list(struct bh_db *db, struct bh_arena *arena, const struct bh_list *list,
    struct bh_server_row **ret_rows, size_t *ret_count, bool *ret_more, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err, list_sql, list->after, bh_number(list->limit + 1).text));
    int rows = PQntuples(r);
    int count = rows > list->limit ? list->limit : rows;
    struct bh_server_row *items = bh_arena_zalloc(arena, (size_t)(count + 1) * sizeof(*items));
    for (int i = 0; items && i < count; i++) {
        read_row(r, i, arena, &items[i]);
        if (!items[i].name || !items[i].state || !items[i].databases)
            items = NULL;
    }
    PQclear(r);
    if (!items)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for servers");
    *ret_rows = items;
    *ret_count = (size_t)count;
    *ret_more = rows > count;
    return BH_OK;
}
