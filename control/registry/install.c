#include "control/registry/registry.h"

#include "control/registry/change.h"
#include "core/buf.h"

#define ENDPOINTS_MAX 4096

/* text[] as a parameter: every element quoted. */
static enum bh_code
array_text(const char *const *items, struct bh_buf *out, struct bh_error *err)
{
    bh_buf_putc(out, '{');
    for (size_t i = 0; items[i]; i++) {
        bh_buf_puts(out, i ? ",\"" : "\"");
        for (const char *c = items[i]; *c; c++) {
            if (*c == '"' || *c == '\\')
                bh_buf_putc(out, '\\');
            bh_buf_putc(out, *c);
        }
        bh_buf_putc(out, '"');
    }
    bh_buf_putc(out, '}');
    return bh_buf_ok(out) ? BH_OK
                          : bh_fail(err, BH_E_CONFIG, "the application has too many endpoints");
}

struct uids {
    char text[4][BH_UID_TEXT]; /* install, incarnation, cell, server */
};

static enum bh_code
make_uids(struct uids *uids, struct bh_error *err)
{
    for (int i = 0; i < 4; i++) {
        struct bh_uid uid;
        BH_TRY(bh_uid_new(&uid, err));
        bh_uid_format(&uid, uids->text[i]);
    }
    return BH_OK;
}

/* Rotation is a later verb: a first epoch must not end by itself. */
static const char epoch_sql[] =
    "INSERT INTO key_epoch (owner, epoch, not_before, not_after)"
    " VALUES ($1 || ':' || $2, 1, now() - interval '10 minutes', now() + interval '20 years')"
    " ON CONFLICT DO NOTHING";

static enum bh_code
insert_missing(struct bh_db *db, const struct bh_install_seed *seed, const char *endpoints,
    struct bh_error *err)
{
    struct uids uids = {0};
    BH_TRY(make_uids(&uids, err));
    BH_TRY(bh_db_run(db, NULL, err,
        "INSERT INTO install (uid, incarnation) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        uids.text[0], uids.text[1]));
    BH_TRY(
        bh_db_run(db, NULL, err, "INSERT INTO feed_head (seq) VALUES (0) ON CONFLICT DO NOTHING"));
    BH_TRY(bh_db_run(db, NULL, err,
        "INSERT INTO cell (name, uid, endpoints) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        seed->cell, uids.text[2], endpoints));
    BH_TRY(bh_db_run(db, NULL, err,
        "INSERT INTO server (name, uid, cell) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        seed->server, uids.text[3], seed->cell));
    BH_TRY(bh_db_run(db, NULL, err,
        "INSERT INTO shared_database (name, server) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        seed->database, seed->server));
    BH_TRY(bh_db_run(db, NULL, err, epoch_sql, "cell", seed->cell));
    return bh_db_run(db, NULL, err, epoch_sql, "server", seed->server);
}

/* Every record names the endpoints: where they change, each tenant that is routed gets a new one.
 */
static enum bh_code
update_endpoints(struct bh_db *db, const struct bh_install_seed *seed, const char *endpoints,
    struct bh_error *err)
{
    PGresult *result;
    BH_TRY(bh_db_run(db, &result, err,
        "WITH moved AS (UPDATE cell SET endpoints = $2"
        "  WHERE name = $1 AND endpoints <> $2::text[] RETURNING name)"
        " SELECT t.no FROM moved JOIN tenant t ON t.cell = moved.name"
        " WHERE t.state IN " BH_FEED_STATES " AND"
        " (SELECT f.record FROM feed f WHERE f.no = t.no ORDER BY f.seq DESC LIMIT 1) IS NOT NULL"
        " ORDER BY t.no FOR UPDATE OF t",
        seed->cell, endpoints));
    enum bh_code code = BH_OK;
    for (int i = 0; code == BH_OK && i < PQntuples(result); i++) {
        int64_t seq;
        code = bh_feed_append(db, (int32_t)bh_db_int(result, i, 0), &seq, err);
    }
    PQclear(result);
    return code;
}

/* Records name the policies of tiers from the first tenant on. */
static enum bh_code
publish_tiers(struct bh_db *db, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(
        bh_db_run(db, &r, err, "SELECT 'policy/' || name, edge FROM tier ORDER BY name FOR SHARE"));
    enum bh_code code = BH_OK;
    for (int i = 0; code == BH_OK && i < PQntuples(r); i++) {
        const struct bh_feed_document policy = {
            .name = PQgetvalue(r, i, 0), .body = PQgetvalue(r, i, 1)};
        int64_t seq;
        code = bh_feed_document_append(db, &policy, &seq, err);
    }
    PQclear(r);
    return code;
}

static enum bh_code
ensure(struct bh_db *db, const struct bh_install_seed *seed, struct bh_error *err)
{
    char storage[ENDPOINTS_MAX];
    struct bh_buf endpoints;
    bh_buf_init(&endpoints, storage, sizeof(storage));
    BH_TRY(array_text(seed->endpoints, &endpoints, err));
    BH_TRY(bh_db_run(db, NULL, err, "SELECT pg_advisory_xact_lock(7470, 2)"));
    BH_TRY(insert_missing(db, seed, storage, err));
    BH_TRY(update_endpoints(db, seed, storage, err));
    return publish_tiers(db, err); /* last: tenants are locked before feed_head */
}

enum bh_code
bh_install_ensure(struct bh_db *db, const struct bh_install_seed *seed, struct bh_error *err)
{
    BH_TRY(bh_db_begin(db, err));
    enum bh_code code = ensure(db, seed, err);
    if (code == BH_OK)
        return bh_db_commit(db, err);
    bh_db_rollback(db);
    return code;
}
