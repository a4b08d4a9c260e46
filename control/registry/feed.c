#include "control/registry/registry.h"

#include <stdio.h>
#include <string.h>

#include "control/registry/change.h"

enum bh_code
bh_feed_head(
    struct bh_db *db, char ret_incarnation[BH_UID_TEXT], int64_t *ret_seq, struct bh_error *err)
{
    PGresult *result;
    BH_TRY(bh_db_run(
        db, &result, err, "SELECT i.incarnation, h.seq FROM install i CROSS JOIN feed_head h"));
    int rows = PQntuples(result);
    if (rows == 1) {
        snprintf(ret_incarnation, BH_UID_TEXT, "%s", PQgetvalue(result, 0, 0));
        *ret_seq = bh_db_int(result, 0, 1);
    }
    PQclear(result);
    if (rows != 1)
        return bh_fail(err, BH_E_UNAVAILABLE, "the registry is not set up yet");
    return BH_OK;
}

static void
read_row(const PGresult *r, int row, const char *record, struct bh_feed_row *ret_row)
{
    *ret_row = (struct bh_feed_row){
        .seq = bh_db_int(r, row, 0),
        .no = (int32_t)bh_db_int(r, row, 1),
        .version = bh_db_int(r, row, 2),
        .record = record,
    };
}

static enum bh_code
copy_rows(struct bh_arena *arena, const PGresult *result, struct bh_feed_row **ret_rows,
    struct bh_error *err)
{
    int count = PQntuples(result);
    struct bh_feed_row *rows = bh_arena_zalloc(arena, (size_t)(count + 1) * sizeof(*rows));
    for (int i = 0; rows && i < count; i++) {
        const char *record = bh_db_text(result, i, 3, arena);
        if (!record && !bh_db_null(result, i, 3))
            return bh_fail(err, BH_E_NO_MEMORY, "no memory for the feed");
        read_row(result, i, record, &rows[i]);
    }
    if (!rows)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for the feed");
    *ret_rows = rows;
    return BH_OK;
}

/* After the rows were read: what was pruned before that is seen here. */
static enum bh_code
check_position(struct bh_db *db, int64_t after, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err, "SELECT seq, pruned FROM feed_head"));
    int64_t head = PQntuples(r) ? bh_db_int(r, 0, 0) : 0;
    int64_t pruned = PQntuples(r) ? bh_db_int(r, 0, 1) : 0;
    PQclear(r);
    if (after >= pruned && after <= head)
        return BH_OK;
    bh_fail(err, BH_E_GONE, "the feed has no %lld: it goes from %lld to %lld", (long long)after,
        (long long)pruned, (long long)head);
    return bh_hint(err, "take the snapshot: GET /v1/feed/snapshot");
}

enum bh_code
bh_feed_read(struct bh_db *db, struct bh_arena *arena, const char *cell, int64_t after, int limit,
    struct bh_feed_row **ret_rows, size_t *ret_count, struct bh_error *err)
{
    PGresult *result;
    BH_TRY(bh_db_run(db, &result, err,
        "SELECT seq, no, version, record FROM feed WHERE cell = $1 AND seq > $2"
        " ORDER BY seq LIMIT $3",
        cell, bh_number(after).text, bh_number(limit).text));
    enum bh_code code = check_position(db, after, err);
    if (code == BH_OK)
        code = copy_rows(arena, result, ret_rows, err);
    if (code == BH_OK)
        *ret_count = (size_t)PQntuples(result);
    PQclear(result);
    return code;
}

/* ---- prune ---- */

/* Whoever reads on from before such a row gets the newer one of the same tenant. */
static const char replaced_sql[] =
    "WITH away AS (DELETE FROM feed WHERE seq IN (SELECT f.seq FROM feed f"
    "  WHERE f.at < now() - interval '1 day'"
    "  AND EXISTS (SELECT FROM feed n WHERE n.no = f.no AND n.cell = f.cell AND n.seq > f.seq)"
    "  ORDER BY f.seq LIMIT 20000) RETURNING seq) SELECT count(*) FROM away";

/* A number that is gone is never given again, so nothing is compared with its tombstone any more.
 */
static const char gone_sql[] =
    "WITH away AS (DELETE FROM feed f USING tenant t WHERE t.no = f.no AND t.state = 'gone'"
    "  AND f.record IS NULL AND f.at < now() - interval '30 days'"
    "  AND NOT EXISTS (SELECT FROM feed n WHERE n.no = f.no AND n.seq > f.seq) RETURNING f.seq),"
    " head AS (UPDATE feed_head SET pruned = greatest(pruned, (SELECT max(seq) FROM away))"
    "  WHERE EXISTS (SELECT FROM away)) SELECT count(*) FROM away";

enum bh_code
bh_feed_prune(struct bh_db *db, int64_t *ret_pruned, struct bh_error *err)
{
    const char *const statements[] = {replaced_sql, gone_sql};
    int64_t pruned = 0;
    for (int i = 0; i < 2; i++) {
        PGresult *r;
        BH_TRY(bh_db_run(db, &r, err, statements[i]));
        pruned += bh_db_int(r, 0, 0);
        PQclear(r);
    }
    *ret_pruned = pruned;
    return BH_OK;
}

/* ---- snapshot ---- */

#define SNAPSHOT_BATCH "1000"

static const char declare_sql[] =
    "DECLARE walk NO SCROLL CURSOR FOR SELECT seq, no, version, record FROM"
    " (SELECT DISTINCT ON (no) seq, no, version, record, cell FROM feed ORDER BY no, seq DESC) f"
    " WHERE record IS NOT NULL AND cell = $1 ORDER BY no";

static enum bh_code
walk(struct bh_db *db, bool (*visit)(void *arg, const struct bh_feed_row *row), void *arg,
    struct bh_error *err)
{
    for (bool more = true; more;) {
        PGresult *result;
        BH_TRY(bh_db_run(db, &result, err, "FETCH " SNAPSHOT_BATCH " FROM walk"));
        more = PQntuples(result) > 0;
        for (int i = 0; more && i < PQntuples(result); i++) {
            struct bh_feed_row row;
            read_row(result, i, PQgetvalue(result, i, 3), &row);
            more = visit(arg, &row);
        }
        PQclear(result);
    }
    return BH_OK;
}

static enum bh_code
take_snapshot(struct bh_db *db, const char *cell, char ret_incarnation[BH_UID_TEXT],
    int64_t *ret_seq, bool (*visit)(void *arg, const struct bh_feed_row *row), void *arg,
    struct bh_error *err)
{
    BH_TRY(bh_db_run(db, NULL, err, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"));
    BH_TRY(bh_feed_head(db, ret_incarnation, ret_seq, err));
    BH_TRY(bh_db_run(db, NULL, err, declare_sql, cell));
    return walk(db, visit, arg, err);
}

enum bh_code
bh_feed_snapshot(struct bh_db *db, const char *cell, char ret_incarnation[BH_UID_TEXT],
    int64_t *ret_seq, bool (*visit)(void *arg, const struct bh_feed_row *row), void *arg,
    struct bh_error *err)
{
    BH_TRY(bh_db_begin(db, err));
    enum bh_code code = take_snapshot(db, cell, ret_incarnation, ret_seq, visit, arg, err);
    bh_db_rollback(db);
    return code;
}

/* ---- append ---- */

/*
 * The record from the route step on says active; the tenant itself is active
 * once the smoke test passed.  What is not to be served has no record.
 */
#define RECORD                                                                                     \
    "CASE WHEN t.state IN ('pending', 'active') THEN jsonb_build_object('id', t.id, 'uid', t.uid," \
    " 'epoch', t.epoch, 'state', 'active', 'tier', t.tier, 'rate', t.rate, 'burst', t.burst,"      \
    " 'share', 1000, 'server', t.server, 'database', t.database,"                                  \
    " 'endpoints', to_jsonb(c.endpoints), 'cell', t.cell) END"

static const char compare_sql[] =
    "SELECT coalesce(last.seq, 0), last.record IS NOT DISTINCT FROM now.record"
    " FROM (SELECT " RECORD " AS record"
    "  FROM tenant t JOIN cell c ON c.name = t.cell WHERE t.no = $1) now"
    " LEFT JOIN LATERAL (SELECT seq, record FROM feed WHERE no = $1"
    "  ORDER BY seq DESC LIMIT 1) last ON true";

static const char append_sql[] =
    "WITH head AS (UPDATE feed_head SET seq = seq + 1 RETURNING seq)"
    " INSERT INTO feed (seq, no, cell, version, record)"
    " SELECT head.seq, t.no, t.cell,"
    "  1 + coalesce((SELECT f.version FROM feed f WHERE f.no = t.no ORDER BY f.seq DESC LIMIT 1), 0),"
    "  " RECORD " FROM head, tenant t JOIN cell c ON c.name = t.cell WHERE t.no = $1"
    " RETURNING seq, pg_notify('bulkhead_feed', seq::text)";

enum bh_code
bh_feed_append(struct bh_db *db, int32_t no, int64_t *ret_seq, struct bh_error *err)
{
    PGresult *result;
    struct bh_number number = bh_number(no);
    BH_TRY(bh_db_run(db, &result, err, compare_sql, number.text));
    bool found = PQntuples(result) == 1;
    bool same = found && PQgetvalue(result, 0, 1)[0] == 't';
    *ret_seq = found ? bh_db_int(result, 0, 0) : 0;
    PQclear(result);
    if (!found)
        return bh_fail(err, BH_E_INTERNAL, "the feed knows no tenant number %d", no);
    if (same)
        return BH_OK;
    BH_TRY(bh_db_run(db, &result, err, append_sql, number.text));
    *ret_seq = bh_db_int(result, 0, 0);
    PQclear(result);
    return BH_OK;
}
