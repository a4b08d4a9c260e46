#include "control/registry/certificate.h"

#include <string.h>

#include "control/registry/change.h"

/* ---- one at a time: a name may pass from one tenant to another ---- */

static enum bh_code
lock_names(struct bh_db *db, struct bh_error *err)
{
    return bh_db_run(db, NULL, err, "SELECT pg_advisory_xact_lock(7472, 0)");
}

static enum bh_code
end_transaction(struct bh_db *db, enum bh_code code, struct bh_error *err)
{
    if (code == BH_OK)
        return bh_db_commit(db, err);
    bh_db_rollback(db);
    return code;
}

struct owner {
    int32_t no;
    bool leaving;
    bool moved; /* not in the cell that was asked for */
};

/* The tenant, locked; ${cell} may be NULL. */
static enum bh_code
lock_tenant(struct bh_db *db, const char *id, const char *cell, struct owner *ret_owner,
    struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT no, state = 'offboarding', cell <> coalesce($2, cell) FROM tenant"
        " WHERE id = $1 AND state <> 'gone' FOR UPDATE",
        id, cell));
    bool found = PQntuples(r) == 1;
    if (found)
        *ret_owner = (struct owner){(int32_t)bh_db_int(r, 0, 0), PQgetvalue(r, 0, 1)[0] == 't',
            PQgetvalue(r, 0, 2)[0] == 't'};
    PQclear(r);
    if (found)
        return BH_OK;
    bh_fail(err, BH_E_NOT_FOUND, "no tenant has the id %s", id);
    return bh_hint(err, "list them with: bulkhead tenant list");
}

static enum bh_code
no_certificate(const char *tenant, const char *name, struct bh_error *err)
{
    bh_fail(err, BH_E_NOT_FOUND, "tenant %s has no certificate for %s", tenant, name);
    return bh_hint(err, "list them with: bulkhead certificate list %s", tenant);
}

/* ---- put ---- */

static enum bh_code
check_owner(const struct owner *owner, const struct bh_certificate_wish *wish, struct bh_error *err)
{
    if (owner->leaving)
        return bh_fail(err, BH_E_CONFLICT, "tenant %s is being removed", wish->tenant);
    if (!owner->moved)
        return BH_OK;
    bh_fail(err, BH_E_CONFLICT, "tenant %s has moved to another cell meanwhile", wish->tenant);
    return bh_hint(err, "send it again");
}

static enum bh_code
check_domain(
    struct bh_db *db, const char *no, const struct bh_certificate_wish *wish, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT EXISTS (SELECT FROM domain WHERE no = $1 AND certificate_covers($2, name)),"
        " EXISTS (SELECT FROM certificate c JOIN domain d ON d.no = c.no"
        "  AND certificate_covers(c.name, d.name) WHERE c.name = $2 AND c.no <> $1)",
        no, wish->name));
    bool own = PQgetvalue(r, 0, 0)[0] == 't';
    bool taken = PQgetvalue(r, 0, 1)[0] == 't';
    PQclear(r);
    if (!own) {
        bh_fail_at(
            err, BH_E_INVALID, "/domain", "%s is no domain of tenant %s", wish->name, wish->tenant);
        return bh_hint(err, "add it to the tenant's domains first");
    }
    if (taken)
        return bh_fail(err, BH_E_CONFLICT, "another tenant has the certificate for %s", wish->name);
    return BH_OK;
}

static const char put_sql[] =
    "INSERT INTO certificate AS c (name, no, body, names, issuer, key_type, fingerprint,"
    " not_before, not_after)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, to_timestamp($8::bigint / 1000000),"
    " to_timestamp($9::bigint / 1000000))"
    " ON CONFLICT (name) DO UPDATE SET no = $2, body = $3, names = $4, issuer = $5, key_type = $6,"
    " fingerprint = $7, not_before = excluded.not_before, not_after = excluded.not_after,"
    " updated_at = clock_timestamp() RETURNING xmax = 0";

static enum bh_code
put_row(struct bh_db *db, const char *no, const struct bh_certificate_wish *wish, bool *ret_created,
    struct bh_error *err)
{
    PGresult *r;
    const struct bh_certificate_facts *facts = &wish->facts;
    BH_TRY(bh_db_run(db, &r, err, put_sql, wish->name, no, wish->body, facts->names, facts->issuer,
        facts->key_type, facts->fingerprint, bh_number(facts->not_before_us).text,
        bh_number(facts->not_after_us).text));
    *ret_created = PQgetvalue(r, 0, 0)[0] == 't';
    PQclear(r);
    return BH_OK;
}

static enum bh_code
put_locked(struct bh_db *db, const struct bh_certificate_wish *wish, bool *ret_created,
    struct bh_error *err)
{
    struct owner owner;
    int64_t seq = 0;
    BH_TRY(lock_tenant(db, wish->tenant, wish->cell, &owner, err));
    BH_TRY(check_owner(&owner, wish, err));
    BH_TRY(lock_names(db, err));
    struct bh_number no = bh_number(owner.no);
    BH_TRY(check_domain(db, no.text, wish, err));
    BH_TRY(put_row(db, no.text, wish, ret_created, err));
    return bh_certificates_sync(db, owner.no, &seq, err);
}

enum bh_code
bh_certificate_put(struct bh_db *db, const struct bh_certificate_wish *wish, bool *ret_created,
    struct bh_error *err)
{
    BH_TRY(bh_db_begin(db, err));
    return end_transaction(db, put_locked(db, wish, ret_created, err), err);
}

/* ---- delete ---- */

static enum bh_code
delete_locked(struct bh_db *db, const char *tenant, const char *name, struct bh_error *err)
{
    PGresult *r;
    struct owner owner;
    int64_t seq;
    BH_TRY(lock_tenant(db, tenant, NULL, &owner, err));
    BH_TRY(lock_names(db, err));
    BH_TRY(bh_db_run(db, &r, err,
        "DELETE FROM certificate c USING tenant t WHERE c.name = $1 AND c.no = $2 AND t.no = c.no"
        " RETURNING 'certificate/' || c.name, t.cell",
        name, bh_number(owner.no).text));
    if (PQntuples(r) == 0) {
        PQclear(r);
        return no_certificate(tenant, name, err);
    }
    const struct bh_feed_document document = {PQgetvalue(r, 0, 0), PQgetvalue(r, 0, 1), NULL};
    enum bh_code code = bh_feed_document_append(db, &document, &seq, err);
    PQclear(r);
    return code;
}

enum bh_code
bh_certificate_delete(struct bh_db *db, const char *tenant, const char *name, struct bh_error *err)
{
    BH_TRY(bh_db_begin(db, err));
    return end_transaction(db, delete_locked(db, tenant, name, err), err);
}

/* ---- read ---- */

#define SERVED                                                                                     \
    "EXISTS (SELECT FROM domain d WHERE d.no = c.no AND certificate_covers(c.name, d.name))"
#define COLUMNS                                                                                    \
    "c.name, c.names::text, c.issuer, c.key_type, c.fingerprint, " BH_SQL_US(                      \
        "c.not_before") ", " BH_SQL_US("c.not_after") ", " BH_SQL_US("c.updated_at") ", " SERVED

static enum bh_code
read_row(const PGresult *r, int row, struct bh_arena *arena, struct bh_certificate *ret_certificate,
    struct bh_error *err)
{
    *ret_certificate = (struct bh_certificate){
        .name = bh_db_text(r, row, 0, arena),
        .facts = {.names = bh_db_text(r, row, 1, arena),
            .issuer = bh_db_text(r, row, 2, arena),
            .key_type = bh_db_text(r, row, 3, arena),
            .fingerprint = bh_db_text(r, row, 4, arena),
            .not_before_us = bh_db_int(r, row, 5),
            .not_after_us = bh_db_int(r, row, 6)},
        .updated_us = bh_db_int(r, row, 7),
        .served = PQgetvalue(r, row, 8)[0] == 't',
        .body = PQnfields(r) > 9 ? bh_db_text(r, row, 9, arena) : NULL,
    };
    return ret_certificate->name && ret_certificate->facts.names
               ? BH_OK
               : bh_fail(err, BH_E_NO_MEMORY, "no memory for a certificate");
}

enum bh_code
bh_certificate_get(struct bh_db *db, struct bh_arena *arena, const char *tenant, const char *name,
    struct bh_certificate *ret_certificate, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT " COLUMNS ", c.body FROM certificate c JOIN tenant t ON t.no = c.no"
        " WHERE t.id = $1 AND t.state <> 'gone' AND c.name = $2",
        tenant, name));
    enum bh_code code = PQntuples(r) == 1 ? read_row(r, 0, arena, ret_certificate, err)
                                          : no_certificate(tenant, name, err);
    PQclear(r);
    return code;
}

static enum bh_code
read_rows(const PGresult *r, int limit, struct bh_arena *arena,
    struct bh_certificates *ret_certificates, struct bh_error *err)
{
    int rows = PQntuples(r);
    int count = rows > limit ? limit : rows;
    struct bh_certificate *items = bh_arena_zalloc(arena, (size_t)(count + 1) * sizeof(*items));
    if (!items)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for a list");
    for (int i = 0; i < count; i++)
        BH_TRY(read_row(r, i, arena, &items[i], err));
    *ret_certificates = (struct bh_certificates){items, (size_t)count, rows > count};
    return BH_OK;
}

enum bh_code
bh_certificate_list(struct bh_db *db, struct bh_arena *arena, const char *tenant,
    const struct bh_list *list, struct bh_certificates *ret_certificates, struct bh_error *err)
{
    PGresult *r;
    struct bh_tenant owner;
    BH_TRY(bh_tenant_get(db, arena, tenant, &owner, err));
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT " COLUMNS " FROM certificate c WHERE c.no = $1"
        " AND ($2::text IS NULL OR c.name > $2) ORDER BY c.name LIMIT $3",
        bh_number(owner.no).text, list->after, bh_number(list->limit + 1).text));
    enum bh_code code = read_rows(r, list->limit, arena, ret_certificates, err);
    PQclear(r);
    return code;
}

/* ---- the feed ---- */

static const char sync_sql[] =
    "SELECT 'certificate/' || c.name, t.cell,"
    " CASE WHEN t.state IN " BH_FEED_STATES " AND " SERVED " THEN c.body END"
    " FROM certificate c JOIN tenant t ON t.no = c.no WHERE c.no = $1 ORDER BY c.name";

static const char forget_sql[] = "DELETE FROM certificate c USING tenant t WHERE c.no = $1"
                                 " AND t.no = c.no AND t.state IN ('offboarding', 'gone')";

static enum bh_code
append_all(struct bh_db *db, const char *no, int64_t *ret_seq, struct bh_error *err)
{
    PGresult *r;
    enum bh_code code = BH_OK;
    BH_TRY(bh_db_run(db, &r, err, sync_sql, no));
    for (int i = 0; code == BH_OK && i < PQntuples(r); i++) {
        int64_t seq = 0;
        const struct bh_feed_document document = {PQgetvalue(r, i, 0), PQgetvalue(r, i, 1),
            PQgetisnull(r, i, 2) ? NULL : PQgetvalue(r, i, 2)};
        code = bh_feed_document_append(db, &document, &seq, err);
        *ret_seq = seq > *ret_seq ? seq : *ret_seq;
    }
    PQclear(r);
    return code;
}

enum bh_code
bh_certificates_sync(struct bh_db *db, int32_t no, int64_t *ret_seq, struct bh_error *err)
{
    PGresult *r;
    struct bh_number number = bh_number(no);
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT pg_advisory_xact_lock_shared(7472, 0) FROM certificate WHERE no = $1 LIMIT 1",
        number.text));
    bool any = PQntuples(r) == 1;
    PQclear(r);
    if (!any)
        return BH_OK;
    BH_TRY(append_all(db, number.text, ret_seq, err));
    return bh_db_run(db, NULL, err, forget_sql, number.text);
}
