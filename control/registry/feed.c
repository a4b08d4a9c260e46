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

#define COLUMNS "seq, no, version, record, document, body"

/* Borrowed from ${r}. */
static const char *
text_of(const PGresult *r, int row, int column)
{
    return bh_db_null(r, row, column) ? NULL : PQgetvalue(r, row, column);
}

static void
read_row(const PGresult *r, int row, struct bh_feed_row *ret_row)
{
    *ret_row = (struct bh_feed_row){
        .seq = bh_db_int(r, row, 0),
        .no = (int32_t)bh_db_int(r, row, 1),
        .version = bh_db_int(r, row, 2),
        .record = text_of(r, row, 3),
        .document = text_of(r, row, 4),
        .body = text_of(r, row, 5),
    };
}

/* A borrowed text into ${arena}; false: no memory. */
static bool
keep(struct bh_arena *arena, const char **text)
{
    if (*text)
        *text = bh_arena_strdup(arena, *text);
    return *text != NULL;
}

static enum bh_code
copy_rows(struct bh_arena *arena, const PGresult *result, struct bh_feed_row **ret_rows,
    struct bh_error *err)
{
    int count = PQntuples(result);
    struct bh_feed_row *rows = bh_arena_zalloc(arena, (size_t)(count + 1) * sizeof(*rows));
    for (int i = 0; rows && i < count; i++) {
        read_row(result, i, &rows[i]);
        bool kept = (!rows[i].record || keep(arena, &rows[i].record)) &&
                    (!rows[i].document || keep(arena, &rows[i].document)) &&
                    (!rows[i].body || keep(arena, &rows[i].body));
        if (!kept)
            return bh_fail(err, BH_E_NO_MEMORY, "no memory for the feed");
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
bh_feed_read(struct bh_db *db, struct bh_arena *arena, const struct bh_feed_scope *scope,
    int64_t after, int limit, struct bh_feed_row **ret_rows, size_t *ret_count,
    struct bh_error *err)
{
    PGresult *result;
    BH_TRY(bh_db_run(db, &result, err,
        "SELECT " COLUMNS " FROM feed WHERE (cell = $1 OR cell IS NULL) AND seq > $2"
        " AND (document IS NULL OR $4) ORDER BY seq LIMIT $3",
        scope->cell, bh_number(after).text, bh_number(limit).text, bh_flag(scope->documents)));
    enum bh_code code = check_position(db, after, err);
    if (code == BH_OK)
        code = copy_rows(arena, result, ret_rows, err);
    if (code == BH_OK)
        *ret_count = (size_t)PQntuples(result);
    PQclear(result);
    return code;
}

/* ---- prune ---- */

/* A newer row of the same tenant, of the same document. */
#define NEWER_RECORD                                                                               \
    "EXISTS (SELECT FROM feed n WHERE n.no = f.no AND n.cell = f.cell AND n.seq > f.seq)"
#define NEWER_DOCUMENT                                                                             \
    "EXISTS (SELECT FROM feed n WHERE n.document = f.document"                                     \
    " AND n.cell IS NOT DISTINCT FROM f.cell AND n.seq > f.seq)"

/* Whoever reads on from before such a row gets the newer one. */
static const char replaced_sql[] =
    "WITH away AS (DELETE FROM feed WHERE seq IN (SELECT f.seq FROM feed f"
    "  WHERE f.at < now() - interval '1 day' AND CASE WHEN f.document IS NULL"
    "   THEN " NEWER_RECORD " ELSE " NEWER_DOCUMENT " END"
    "  ORDER BY f.seq LIMIT 20000) RETURNING seq) SELECT count(*) FROM away";

/* A number that is gone is never given again, so nothing is compared with its tombstone any more.
 */
static const char gone_sql[] =
    "WITH away AS (DELETE FROM feed f USING tenant t WHERE t.no = f.no AND t.state = 'gone'"
    "  AND f.record IS NULL AND f.at < now() - interval '30 days'"
    "  AND NOT EXISTS (SELECT FROM feed n WHERE n.no = f.no AND n.seq > f.seq) RETURNING f.seq),"
    " head AS (UPDATE feed_head SET pruned = greatest(pruned, (SELECT max(seq) FROM away))"
    "  WHERE EXISTS (SELECT FROM away)) SELECT count(*) FROM away";

/* The version of a document is its seq: one that comes back is newer than whatever a reader keeps.
 */
static const char gone_document_sql[] =
    "WITH away AS (DELETE FROM feed f WHERE f.document IS NOT NULL AND f.body IS NULL"
    "  AND f.at < now() - interval '30 days' AND NOT " NEWER_DOCUMENT " RETURNING f.seq),"
    " head AS (UPDATE feed_head SET pruned = greatest(pruned, (SELECT max(seq) FROM away))"
    "  WHERE EXISTS (SELECT FROM away)) SELECT count(*) FROM away";

enum bh_code
bh_feed_prune(struct bh_db *db, int64_t *ret_pruned, struct bh_error *err)
{
    const char *const statements[] = {replaced_sql, gone_sql, gone_document_sql};
    int64_t pruned = 0;
    for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++) {
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
    "DECLARE walk NO SCROLL CURSOR FOR SELECT " COLUMNS " FROM"
    " (SELECT DISTINCT ON (no) " COLUMNS ", cell FROM feed WHERE no IS NOT NULL"
    "  ORDER BY no, seq DESC) r WHERE record IS NOT NULL AND cell = $1"
    " UNION ALL SELECT " COLUMNS " FROM"
    " (SELECT DISTINCT ON (document, cell) " COLUMNS " FROM feed"
    "  WHERE $2 AND document IS NOT NULL AND (cell = $1 OR cell IS NULL)"
    "  ORDER BY document, cell, seq DESC) d WHERE body IS NOT NULL";

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
            read_row(result, i, &row);
            more = visit(arg, &row);
        }
        PQclear(result);
    }
    return BH_OK;
}

static enum bh_code
take_snapshot(struct bh_db *db, const struct bh_feed_scope *scope,
    char ret_incarnation[BH_UID_TEXT], int64_t *ret_seq,
    bool (*visit)(void *arg, const struct bh_feed_row *row), void *arg, struct bh_error *err)
{
    BH_TRY(bh_db_run(db, NULL, err, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"));
    BH_TRY(bh_feed_head(db, ret_incarnation, ret_seq, err));
    BH_TRY(bh_db_run(db, NULL, err, declare_sql, scope->cell, bh_flag(scope->documents)));
    return walk(db, visit, arg, err);
}

enum bh_code
bh_feed_snapshot(struct bh_db *db, const struct bh_feed_scope *scope,
    char ret_incarnation[BH_UID_TEXT], int64_t *ret_seq,
    bool (*visit)(void *arg, const struct bh_feed_row *row), void *arg, struct bh_error *err)
{
    BH_TRY(bh_db_begin(db, err));
    enum bh_code code = take_snapshot(db, scope, ret_incarnation, ret_seq, visit, arg, err);
    bh_db_rollback(db);
    return code;
}
