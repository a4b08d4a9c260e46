#include "control/registry/audit.h"

#include "control/registry/change.h"

#define PRUNE_ROUNDS 50

/* ---- add ---- */

/* Rows are told apart by (server, epoch, seq, kind), and so are their ids. */
#define ID                                                                                         \
    "'aud_' || ulid(r.at, substring(int8send(r.seq) FROM 4 FOR 5)"                                 \
    " || substring(decode(md5($1 || ' ' || $2 || ' ' || r.kind), 'hex') FROM 1 FOR 5))"

/*
 * A clock that runs ahead cannot put an entry into the future, nor before all
 * others.  What a rate limit held back is told by the tenant's next entry; where
 * none comes it is told without a tenant ($7: so many were), and an entry that
 * comes after all tells the others only: the sum of all counts is the truth.
 */
static const char add_sql[] =
    "WITH entry AS (SELECT e.seq, t.no, t.id AS tenant,"
    "  nullif(left(e.subject, 255), '') AS subject, nullif(left(e.database, 63), '') AS database,"
    "  nullif(left(e.object, 300), '') AS object, left(e.sqlstate, 5) AS sqlstate,"
    "  left(e.message, 1000) AS message, nullif(left(e.fingerprint, 2000), '') AS fingerprint,"
    "  greatest(least(e.at, clock_timestamp()), 'epoch') AS at,"
    "  lag(e.seq, 1, $3::bigint) OVER (ORDER BY e.seq) AS before,"
    "  greatest(e.suppressed, 0) AS suppressed,"
    "  (sum(greatest(e.suppressed, 0)) OVER (ORDER BY e.seq))::bigint AS sum"
    "  FROM jsonb_to_recordset($4::jsonb) AS e (seq bigint, at timestamptz, no int, tenant text,"
    "   subject text, database text, object text, sqlstate text, message text, fingerprint text,"
    "   suppressed bigint) LEFT JOIN tenant t ON t.no = e.no AND t.server = $1"
    "   WHERE e.seq > $3::bigint),"
    " told AS (SELECT $6::bigint + t.sum AS by_entries, $7::bigint - least($7, t.sum) AS without"
    "  FROM (SELECT coalesce(max(sum), 0) AS sum FROM entry) t),"
    " rest AS (SELECT CASE WHEN $9::boolean"
    "  THEN greatest(0, $8::bigint - by_entries - without) ELSE 0 END AS count FROM told),"
    " note (kind, seq, at, no, tenant, count, message) AS ("
    "  SELECT 'suppressed', seq, at, no, tenant,"
    "   suppressed - (least($7, sum) - least($7, sum - suppressed)), 'a rate limit kept further"
    " refusals of this tenant from being recorded one by one' FROM entry"
    "  UNION ALL SELECT 'suppressed', -$8::bigint, clock_timestamp(), NULL, NULL, count,"
    "   'a rate limit kept further refusals from being recorded one by one' FROM rest"
    "  UNION ALL SELECT 'dropped', seq - 1, at, NULL, NULL, seq - before - 1,"
    "   'the ring overwrote entries before they were read' FROM entry"
    "  UNION ALL SELECT 'restart', 0, clock_timestamp(), NULL, NULL, 0, 'the server began a new"
    " ring: what the old one held since it was last read is lost' WHERE $5::boolean),"
    " r AS (SELECT 'refused' AS kind, seq, at, no, tenant, 1::bigint AS count, message, subject,"
    "   database, object, sqlstate, fingerprint FROM entry"
    "  UNION ALL SELECT kind, seq, at, no, tenant, count, message, NULL, NULL, NULL, NULL, NULL"
    "   FROM note WHERE count > 0 OR kind = 'restart'),"
    " added AS (INSERT INTO audit (id, server, epoch, kind, seq, at, no, tenant, count, message,"
    "   subject, database, object, sqlstate, fingerprint)"
    "  SELECT " ID ", $1, $2::bigint, r.* FROM r ON CONFLICT DO NOTHING RETURNING kind, count)"
    " UPDATE server_watch SET audit_epoch = $2::bigint, audit_suppressed = told.by_entries,"
    "  audit_unattributed = told.without + rest.count,"
    "  audit_seq = greatest($3::bigint, (SELECT max(seq) FROM entry))"
    " FROM told, rest WHERE server = $1"
    " RETURNING (SELECT count(*) FROM added), (SELECT coalesce(sum(count), 0)::bigint FROM added"
    "  WHERE kind = 'dropped'), audit_seq";

/* What is known of the server's ring, under the lock of its row; zeros of one that is new. */
struct position {
    bool restarted; /* another one was read before */
    int64_t seq;
    int64_t by_entries;
    int64_t without;
};

static enum bh_code
lock_position(struct bh_db *db, const struct bh_audit_batch *batch, struct position *ret_position,
    struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT audit_epoch, audit_seq, audit_suppressed, audit_unattributed FROM server_watch"
        " WHERE server = $1 FOR UPDATE",
        batch->server));
    bool found = PQntuples(r) == 1;
    if (found && bh_db_int(r, 0, 0) == batch->epoch)
        *ret_position =
            (struct position){false, bh_db_int(r, 0, 1), bh_db_int(r, 0, 2), bh_db_int(r, 0, 3)};
    else if (found)
        *ret_position = (struct position){.restarted = !bh_db_null(r, 0, 0)};
    PQclear(r);
    return found ? BH_OK : bh_fail(err, BH_E_NOT_FOUND, "nobody watches server %s", batch->server);
}

static enum bh_code
add(struct bh_db *db, const struct bh_audit_batch *batch, struct bh_audit_added *ret_added,
    struct bh_error *err)
{
    PGresult *r;
    struct position position = {0};
    BH_TRY(lock_position(db, batch, &position, err));
    BH_TRY(bh_db_run(db, &r, err, add_sql, batch->server, bh_number(batch->epoch).text,
        bh_number(position.seq).text, batch->json, position.restarted ? "t" : "f",
        bh_number(position.by_entries).text, bh_number(position.without).text,
        bh_number(batch->suppressed).text, batch->quiet ? "t" : "f"));
    *ret_added =
        (struct bh_audit_added){bh_db_int(r, 0, 0), bh_db_int(r, 0, 1), bh_db_int(r, 0, 2)};
    PQclear(r);
    return BH_OK;
}

enum bh_code
bh_audit_add(struct bh_db *db, const struct bh_audit_batch *batch, struct bh_audit_added *ret_added,
    struct bh_error *err)
{
    struct bh_audit_added added;
    BH_TRY(bh_db_begin(db, err));
    enum bh_code code = add(db, batch, &added, err);
    if (code == BH_OK)
        code = bh_db_commit(db, err);
    if (code == BH_OK)
        *ret_added = added;
    else
        bh_db_rollback(db);
    return code;
}

/* ---- prune ---- */

static const char old_sql[] =
    "WITH old AS (SELECT id FROM audit WHERE at < now() - $1::bigint * interval '1 day'"
    "  ORDER BY id LIMIT 20000),"
    " away AS (DELETE FROM audit a USING old WHERE a.id = old.id RETURNING a.id)"
    " SELECT count(*) FROM away";

/* A tenth of the greatest share at a time, so that two that flood lose in turns. */
static const char many_sql[] =
    "WITH size AS (SELECT count(*) - $1::bigint AS over FROM audit),"
    " most AS (SELECT no, count(*) AS rows FROM audit GROUP BY no ORDER BY rows DESC LIMIT 1),"
    " old AS (SELECT a.id FROM audit a JOIN most ON a.no IS NOT DISTINCT FROM most.no ORDER BY a.id"
    "  LIMIT (SELECT greatest(0, least(over, 1 + rows / 10)) FROM size, most)),"
    " away AS (DELETE FROM audit a USING old WHERE a.id = old.id RETURNING a.id)"
    " SELECT count(*) FROM away";

static enum bh_code
prune_once(struct bh_db *db, const char *sql, int64_t bound, int64_t *pruned, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err, sql, bh_number(bound).text));
    *pruned += bh_db_int(r, 0, 0);
    PQclear(r);
    return BH_OK;
}

enum bh_code
bh_audit_prune(
    struct bh_db *db, int64_t days, int64_t rows, int64_t *ret_pruned, struct bh_error *err)
{
    int64_t pruned = 0;
    int64_t before;
    BH_TRY(prune_once(db, old_sql, days, &pruned, err));
    for (int i = 0; i < PRUNE_ROUNDS; i++) {
        before = pruned;
        BH_TRY(prune_once(db, many_sql, rows, &pruned, err));
        if (pruned == before)
            break;
    }
    *ret_pruned = pruned;
    return BH_OK;
}

/* ---- list ---- */

static const char list_sql[] = "SELECT id, kind, " BH_SQL_US(
    "at") ", no, tenant, subject, server, database, object, sqlstate,"
          " message, fingerprint, count FROM audit"
          " WHERE ($1::text IS NULL OR tenant = $1) AND ($2::text IS NULL OR sqlstate = $2)"
          " AND ($3::bigint IS NULL OR at >= to_timestamp($3::bigint / 1000000.0))"
          " AND ($4::bigint IS NULL OR at < to_timestamp($4::bigint / 1000000.0))"
          " AND ($5::text IS NULL OR id < $5) ORDER BY id DESC LIMIT $6";

static void
read_row(const PGresult *r, int row, struct bh_arena *arena, struct bh_audit_row *ret_row)
{
    *ret_row = (struct bh_audit_row){
        .id = bh_db_text(r, row, 0, arena),
        .kind = bh_db_text(r, row, 1, arena),
        .at_us = bh_db_int(r, row, 2),
        .no = (int32_t)bh_db_int(r, row, 3),
        .tenant = bh_db_text(r, row, 4, arena),
        .subject = bh_db_text(r, row, 5, arena),
        .server = bh_db_text(r, row, 6, arena),
        .database = bh_db_text(r, row, 7, arena),
        .object = bh_db_text(r, row, 8, arena),
        .sqlstate = bh_db_text(r, row, 9, arena),
        .message = bh_db_text(r, row, 10, arena),
        .fingerprint = bh_db_text(r, row, 11, arena),
        .count = bh_db_int(r, row, 12),
    };
}

enum bh_code
bh_audit_list(struct bh_db *db, struct bh_arena *arena, const struct bh_list *list,
    const struct bh_audit_filter *filter, struct bh_audit_row **ret_rows, size_t *ret_count,
    bool *ret_more, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err, list_sql, list->tenant, filter->sqlstate,
        filter->from_us ? bh_number(*filter->from_us).text : NULL,
        filter->to_us ? bh_number(*filter->to_us).text : NULL, list->after,
        bh_number(list->limit + 1).text));
    int rows = PQntuples(r);
    int count = rows > list->limit ? list->limit : rows;
    struct bh_audit_row *items = bh_arena_zalloc(arena, (size_t)(count + 1) * sizeof(*items));
    for (int i = 0; items && i < count; i++) {
        read_row(r, i, arena, &items[i]);
        if (!items[i].id || !items[i].kind || !items[i].server)
            items = NULL;
    }
    PQclear(r);
    if (!items)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for audit rows");
    *ret_rows = items;
    *ret_count = (size_t)count;
    *ret_more = rows > count;
    return BH_OK;
}
