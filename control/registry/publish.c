/* What goes into the feed: records of tenants, documents. */
#include <string.h>

#include "control/registry/certificate.h"
#include "control/registry/change.h"
#include "control/registry/registry.h"

/* ---- documents ---- */

static const char newest_document_sql[] =
    "SELECT seq, body IS NOT DISTINCT FROM $3 FROM feed"
    " WHERE document = $1 AND cell IS NOT DISTINCT FROM $2 ORDER BY seq DESC LIMIT 1";

static const char append_document_sql[] =
    "WITH head AS (UPDATE feed_head SET seq = seq + 1 RETURNING seq)"
    " INSERT INTO feed (seq, cell, version, document, body)"
    " SELECT seq, $2, seq, $1, $3 FROM head RETURNING seq, pg_notify('bulkhead_feed', seq::text)";

/* What a reader would refuse must never get into the feed: it would stop there. */
static enum bh_code
check_document(const struct bh_feed_document *document, struct bh_error *err)
{
    size_t name = strlen(document->name);
    if (name == 0 || name > BH_FEED_NAME_MAX)
        return bh_fail(err, BH_E_INTERNAL, "a document's name has 1 to %d bytes, not %zu",
            BH_FEED_NAME_MAX, name);
    if (document->body && strlen(document->body) > BH_FEED_BODY_MAX)
        return bh_fail(err, BH_E_TOO_LARGE, "the document %s is larger than %d bytes",
            document->name, BH_FEED_BODY_MAX);
    return BH_OK;
}

enum bh_code
bh_feed_document_append(struct bh_db *db, const struct bh_feed_document *document, int64_t *ret_seq,
    struct bh_error *err)
{
    PGresult *result;
    BH_TRY(check_document(document, err));
    BH_TRY(bh_db_run(
        db, &result, err, newest_document_sql, document->name, document->cell, document->body));
    bool found = PQntuples(result) == 1;
    bool same = found ? PQgetvalue(result, 0, 1)[0] == 't' : document->body == NULL;
    *ret_seq = found ? bh_db_int(result, 0, 0) : 0;
    PQclear(result);
    if (same)
        return BH_OK;
    BH_TRY(bh_db_run(
        db, &result, err, append_document_sql, document->name, document->cell, document->body));
    *ret_seq = bh_db_int(result, 0, 0);
    PQclear(result);
    return BH_OK;
}

/* ---- records ---- */

/*
 * The record from the route step on says active; the tenant itself is active
 * once the smoke test passed.  A tenant that is suspended or being moved keeps
 * its record, with that state, so that the edge can say so, or wait.  What is
 * not to be served has none.
 */
#define SERVED "t.state IN " BH_FEED_STATES
#define STATE "CASE WHEN t.state IN ('suspended', 'moving') THEN t.state ELSE 'active' END"
#define RECORD                                                                                     \
    "CASE WHEN " SERVED " THEN jsonb_build_object('id', t.id, 'uid', t.uid,"                       \
    " 'epoch', t.epoch, 'state', " STATE ", 'tier', t.tier, 'rate', t.rate, 'burst', t.burst,"     \
    " 'share', 1000, 'server', t.server, 'database', t.database, 'endpoints',"                     \
    " CASE WHEN t.endpoints = '[]' THEN to_jsonb(c.endpoints) ELSE t.endpoints END,"               \
    " 'cell', t.cell, 'policy', CASE WHEN t.edge = '{}' THEN t.tier ELSE 't' || t.no END)"         \
    " || CASE WHEN t.domains = '[]' THEN '{}'"                                                     \
    "  ELSE jsonb_build_object('domains', t.domains) END END"

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

static enum bh_code
append_record(struct bh_db *db, const char *no, int64_t *ret_seq, struct bh_error *err)
{
    PGresult *result;
    BH_TRY(bh_db_run(db, &result, err, compare_sql, no));
    bool found = PQntuples(result) == 1;
    bool same = found && PQgetvalue(result, 0, 1)[0] == 't';
    *ret_seq = found ? bh_db_int(result, 0, 0) : 0;
    PQclear(result);
    if (!found)
        return bh_fail(err, BH_E_INTERNAL, "the feed knows no tenant number %s", no);
    if (same)
        return BH_OK;
    BH_TRY(bh_db_run(db, &result, err, append_sql, no));
    *ret_seq = bh_db_int(result, 0, 0);
    PQclear(result);
    return BH_OK;
}

/* ---- policies ---- */

/* The tier is held until COMMIT, so that nobody appends what an older tier and this tenant make. */
static const char policy_sql[] =
    "SELECT 'policy/t' || t.no, t.cell,"
    " CASE WHEN " SERVED " AND t.edge <> '{}' THEN (r.edge || t.edge)::text END"
    " FROM tenant t JOIN tier r ON r.name = t.tier WHERE t.no = $1 FOR SHARE OF r";

/* The newest row of the tenant names the policy: its document must be there before, or go after. */
static enum bh_code
append_both(struct bh_db *db, const char *no, const struct bh_feed_document *policy,
    int64_t *ret_seq, struct bh_error *err)
{
    int64_t record = 0;
    int64_t document = 0;
    if (policy->body)
        BH_TRY(bh_feed_document_append(db, policy, &document, err));
    BH_TRY(append_record(db, no, &record, err));
    if (!policy->body)
        BH_TRY(bh_feed_document_append(db, policy, &document, err));
    *ret_seq = document > record ? document : record;
    return BH_OK;
}

enum bh_code
bh_feed_append(struct bh_db *db, int32_t no, int64_t *ret_seq, struct bh_error *err)
{
    PGresult *r;
    struct bh_number number = bh_number(no);
    BH_TRY(bh_db_run(db, &r, err, policy_sql, number.text));
    if (PQntuples(r) != 1) {
        PQclear(r);
        return bh_fail(err, BH_E_INTERNAL, "the feed knows no tenant number %d", no);
    }
    const struct bh_feed_document policy = {
        .name = PQgetvalue(r, 0, 0),
        .cell = PQgetvalue(r, 0, 1),
        .body = PQgetisnull(r, 0, 2) ? NULL : PQgetvalue(r, 0, 2),
    };
    /* Their lock comes before that of feed_head, which the next append takes. */
    int64_t certificates = 0;
    enum bh_code code = bh_certificates_sync(db, no, &certificates, err);
    if (code == BH_OK)
        code = append_both(db, number.text, &policy, ret_seq, err);
    if (code == BH_OK && certificates > *ret_seq)
        *ret_seq = certificates;
    PQclear(r);
    return code;
}
