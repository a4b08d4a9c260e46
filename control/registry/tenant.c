#include "control/registry/registry.h"

#include <stdio.h>
#include <string.h>

#include "control/registry/change.h"

#define COLUMNS                                                                                    \
    "t.id, t.uid, t.no, t.name, t.tier, t.rate, t.burst, t.state, t.epoch, t.generation,"          \
    " t.observed_generation, t.cell, t.server, t.database, t.operation, t.failure,"                \
    " " BH_SQL_US("t.created_at") ", " BH_SQL_US("t.updated_at") ", t.edge, t.domains,"            \
                                                                 " t.endpoints"

static void
read_row(const PGresult *r, int row, struct bh_arena *arena, struct bh_tenant *ret_tenant)
{
    *ret_tenant = (struct bh_tenant){
        .id = bh_db_text(r, row, 0, arena),
        .uid = bh_db_text(r, row, 1, arena),
        .no = (int32_t)bh_db_int(r, row, 2),
        .name = bh_db_text(r, row, 3, arena),
        .tier = bh_db_text(r, row, 4, arena),
        .limits = {(int32_t)bh_db_int(r, row, 5), (int32_t)bh_db_int(r, row, 6)},
        .state = bh_db_text(r, row, 7, arena),
        .epoch = bh_db_int(r, row, 8),
        .generation = bh_db_int(r, row, 9),
        .observed_generation = bh_db_int(r, row, 10),
        .cell = bh_db_text(r, row, 11, arena),
        .server = bh_db_text(r, row, 12, arena),
        .database = bh_db_text(r, row, 13, arena),
        .operation = bh_db_text(r, row, 14, arena),
        .failure = bh_db_text(r, row, 15, arena),
        .created_us = bh_db_int(r, row, 16),
        .updated_us = bh_db_int(r, row, 17),
        .edge = bh_db_text(r, row, 18, arena),
        .domains = bh_db_text(r, row, 19, arena),
        .endpoints = bh_db_text(r, row, 20, arena),
    };
}

/* The members that are never NULL came through, or memory ran out. */
static enum bh_code
check_row(const struct bh_tenant *tenant, struct bh_error *err)
{
    if (tenant->id && tenant->uid && tenant->name && tenant->tier && tenant->state &&
        tenant->cell && tenant->edge && tenant->domains && tenant->endpoints)
        return BH_OK;
    return bh_fail(err, BH_E_NO_MEMORY, "no memory for a tenant");
}

void
bh_tenant_etag(const struct bh_tenant *tenant, char ret_etag[80])
{
    snprintf(ret_etag, 80, "\"%s.%lld\"", tenant->uid, (long long)tenant->generation);
}

/* ${suffix}: " FOR UPDATE" or nothing; not from outside. */
static enum bh_code
find_living(struct bh_db *db, struct bh_arena *arena, const char *id, bool lock,
    struct bh_tenant *ret_tenant, struct bh_error *err)
{
    const char *sql = lock ? "SELECT " COLUMNS " FROM tenant t"
                             " WHERE t.id = $1 AND t.state <> 'gone' FOR UPDATE"
                           : "SELECT " COLUMNS " FROM tenant t"
                             " WHERE t.id = $1 AND t.state <> 'gone'";
    PGresult *result;
    BH_TRY(bh_db_run(db, &result, err, sql, id));
    if (PQntuples(result) == 0) {
        PQclear(result);
        bh_fail(err, BH_E_NOT_FOUND, "no tenant has the id %s", id);
        return bh_hint(err, "list them with: bulkhead tenant list");
    }
    read_row(result, 0, arena, ret_tenant);
    PQclear(result);
    return check_row(ret_tenant, err);
}

enum bh_code
bh_tenant_get(struct bh_db *db, struct bh_arena *arena, const char *id,
    struct bh_tenant *ret_tenant, struct bh_error *err)
{
    return find_living(db, arena, id, false, ret_tenant, err);
}

/* Who changes the tenant of an id waits here for the others, also before the id exists. */
static enum bh_code
lock_id(struct bh_db *db, const char *id, struct bh_error *err)
{
    return bh_db_run(db, NULL, err, "SELECT pg_advisory_xact_lock(7471, hashtext($1))", id);
}

static enum bh_code
fail_absent_condition(const char *id, struct bh_error *err)
{
    return bh_fail(err, BH_E_PRECONDITION, "If-Match was given, and there is no tenant %s", id);
}

static enum bh_code
check_match(const struct bh_tenant *tenant, const char *if_match, struct bh_error *err)
{
    char etag[80];
    if (!if_match || strcmp(if_match, "*") == 0)
        return BH_OK;
    bh_tenant_etag(tenant, etag);
    if (strcmp(if_match, etag) == 0)
        return BH_OK;
    bh_fail(err, BH_E_PRECONDITION, "tenant %s has changed since: it is at generation %lld",
        tenant->id, (long long)tenant->generation);
    return bh_hint(err, "read it again: bulkhead tenant get %s", tenant->id);
}

/* ---- put ---- */

/*
 * Domains that others do not have become the tenant's, and what it states no more is free.  Who
 * asks for one that another transaction takes waits for that one's end.
 */
static enum bh_code
claim_domains(struct bh_db *db, const char *no, const char *domains, struct bh_error *err)
{
    PGresult *r;
    char pointer[BH_POINTER_MAX];
    BH_TRY(bh_db_run(db, NULL, err,
        "DELETE FROM domain WHERE no = $1"
        " AND name NOT IN (SELECT * FROM jsonb_array_elements_text($2))",
        no, domains));
    BH_TRY(bh_db_run(db, NULL, err,
        "INSERT INTO domain (name, no) SELECT name, $1::int"
        " FROM jsonb_array_elements_text($2) d (name) ORDER BY name COLLATE \"C\""
        " ON CONFLICT DO NOTHING",
        no, domains));
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT place - 1, name FROM jsonb_array_elements_text($2) WITH ORDINALITY w (name, place)"
        " WHERE NOT EXISTS (SELECT FROM domain d WHERE d.name = w.name AND d.no = $1::int)"
        " ORDER BY place LIMIT 1",
        no, domains));
    enum bh_code code = BH_OK;
    if (PQntuples(r) == 1) {
        snprintf(pointer, sizeof(pointer), "/domains/%s", PQgetvalue(r, 0, 0));
        code = bh_fail_at(
            err, BH_E_CONFLICT, pointer, "the domain %s is taken already", PQgetvalue(r, 0, 1));
    }
    PQclear(r);
    return code;
}

static enum bh_code
insert_tenant(struct bh_db *db, const struct bh_tenant_wish *wish, struct bh_error *err)
{
    struct bh_uid uid;
    char uid_text[BH_UID_TEXT];
    PGresult *result;
    BH_TRY(bh_uid_new(&uid, err));
    bh_uid_format(&uid, uid_text);
    BH_TRY(bh_db_run(db, &result, err,
        "INSERT INTO tenant (no, uid, id, name, tier, rate, burst, edge, domains, endpoints, state,"
        "  cell)"
        " SELECT nextval('tenant_no_seq'), $1, $2, $3, $4, $5, $6, $7, $8, $9, 'pending', c.name"
        " FROM cell c ORDER BY c.name LIMIT 1 RETURNING no",
        uid_text, wish->id, wish->name, wish->tier, bh_number(wish->limits.rate).text,
        bh_number(wish->limits.burst).text, wish->edge, wish->domains, wish->endpoints));
    int rows = PQntuples(result);
    int32_t no = rows == 1 ? (int32_t)bh_db_int(result, 0, 0) : 0;
    PQclear(result);
    if (rows != 1)
        return bh_fail(err, BH_E_UNAVAILABLE, "there is no cell to put a tenant into");
    BH_TRY(claim_domains(db, bh_number(no).text, wish->domains, err));
    char operation[BH_OPERATION_ID];
    struct bh_operation_new start = {no, "onboard", 1};
    return bh_operation_start(db, &start, operation, err);
}

/* What a PUT means for a tenant that is there. */
struct difference {
    bool differs;  /* something that people state is new */
    bool flow;     /* the world outside the registry must follow */
    bool restarts; /* it failed before and is asked for again */
};

/* What the registry keeps as jsonb it compares itself. */
static enum bh_code
same_settings(struct bh_db *db, const struct bh_tenant *tenant, const struct bh_tenant_wish *wish,
    bool *ret_same, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT edge = $2::jsonb AND domains = $3::jsonb AND endpoints = $4::jsonb FROM tenant"
        " WHERE no = $1",
        bh_number(tenant->no).text, wish->edge, wish->domains, wish->endpoints));
    *ret_same = PQntuples(r) == 1 && PQgetvalue(r, 0, 0)[0] == 't';
    PQclear(r);
    return BH_OK;
}

static struct difference
compare(const struct bh_tenant *tenant, const struct bh_tenant_wish *wish, bool same)
{
    bool failed = strcmp(tenant->state, bh_tenant_state_name(BH_TENANT_FAILED)) == 0;
    bool stuck = !tenant->operation && tenant->observed_generation < tenant->generation;
    bool outside = !same || tenant->limits.rate != wish->limits.rate ||
                   tenant->limits.burst != wish->limits.burst ||
                   strcmp(tenant->tier, wish->tier) != 0;
    return (struct difference){
        .differs = outside || strcmp(tenant->name, wish->name) != 0,
        .flow = outside || failed || stuck,
        .restarts = failed,
    };
}

/* Without a flow, and without one under way, what is wished is reached by writing it down. */
static enum bh_code
write_wish(struct bh_db *db, const struct bh_tenant *tenant, const struct bh_tenant_wish *wish,
    const struct difference *difference, struct bh_error *err)
{
    bool reached = !difference->flow && !tenant->operation;
    BH_TRY(bh_db_run(db, NULL, err,
        "UPDATE tenant SET name = $2, tier = $3, rate = $4, burst = $5,"
        " generation = generation + $6,"
        " observed_generation = CASE WHEN $7 THEN generation + $6 ELSE observed_generation END,"
        " edge = $8, domains = $9, endpoints = $10,"
        " updated_at = clock_timestamp() WHERE no = $1",
        bh_number(tenant->no).text, wish->name, wish->tier, bh_number(wish->limits.rate).text,
        bh_number(wish->limits.burst).text, difference->differs ? "1" : "0", bh_flag(reached),
        wish->edge, wish->domains, wish->endpoints));
    return claim_domains(db, bh_number(tenant->no).text, wish->domains, err);
}

static enum bh_code
change_tenant(struct bh_db *db, const struct bh_tenant *tenant, const struct bh_tenant_wish *wish,
    const struct difference *difference, struct bh_error *err)
{
    char operation[BH_OPERATION_ID];
    BH_TRY(write_wish(db, tenant, wish, difference, err));
    if (!difference->flow)
        return BH_OK;
    if (difference->restarts)
        BH_TRY(bh_tenant_state_set(db, tenant->no, BH_TENANT_PENDING, err));
    bool served = strcmp(tenant->state, bh_tenant_state_name(BH_TENANT_ACTIVE)) == 0;
    struct bh_operation_new start = {tenant->no, served ? "update" : "onboard",
        tenant->generation + (difference->differs ? 1 : 0)};
    return bh_operation_start(db, &start, operation, err);
}

static enum bh_code
refuse_offboarding(struct bh_db *db, const struct bh_tenant *tenant, struct bh_error *err)
{
    if (strcmp(tenant->state, bh_tenant_state_name(BH_TENANT_OFFBOARDING)) != 0)
        return BH_OK;
    PGresult *result;
    BH_TRY(bh_db_run(db, &result, err, "SELECT max(id) FROM operation WHERE tenant_no = $1",
        bh_number(tenant->no).text));
    bh_fail(err, BH_E_CONFLICT, "tenant %s is being removed", tenant->id);
    bh_hint(err,
        tenant->operation ? "wait for it: bulkhead op watch %s" : "go on: bulkhead op resume %s",
        PQgetvalue(result, 0, 0));
    PQclear(result);
    return BH_E_CONFLICT;
}

static enum bh_code
put_existing(struct bh_db *db, const struct bh_tenant *tenant, const struct bh_tenant_wish *wish,
    enum bh_change *ret_change, struct bh_error *err)
{
    BH_TRY(refuse_offboarding(db, tenant, err));
    if (wish->create_only)
        return bh_fail(err, BH_E_PRECONDITION, "tenant %s exists already", tenant->id);
    BH_TRY(check_match(tenant, wish->if_match, err));
    bool same;
    BH_TRY(same_settings(db, tenant, wish, &same, err));
    struct difference difference = compare(tenant, wish, same);
    if (!difference.differs && !difference.flow) {
        *ret_change = BH_CHANGE_NONE;
        return BH_OK;
    }
    *ret_change = BH_CHANGE_UPDATED;
    return change_tenant(db, tenant, wish, &difference, err);
}

static enum bh_code
put_locked(struct bh_db *db, struct bh_arena *arena, const struct bh_tenant_wish *wish,
    struct bh_tenant *ret_tenant, enum bh_change *ret_change, struct bh_error *err)
{
    BH_TRY(lock_id(db, wish->id, err));
    enum bh_code code = find_living(db, arena, wish->id, true, ret_tenant, err);
    if (code == BH_OK || code == BH_E_NOT_FOUND)
        BH_TRY(bh_tier_check(db, wish->tier, wish->edge, err));
    if (code == BH_E_NOT_FOUND && wish->if_match)
        return fail_absent_condition(wish->id, err);
    if (code == BH_E_NOT_FOUND) {
        BH_TRY(insert_tenant(db, wish, err));
        *ret_change = BH_CHANGE_CREATED;
    } else {
        BH_TRY(code);
        BH_TRY(put_existing(db, ret_tenant, wish, ret_change, err));
    }
    return find_living(db, arena, wish->id, false, ret_tenant, err);
}

static enum bh_code
end_transaction(struct bh_db *db, enum bh_code code, struct bh_error *err)
{
    if (code == BH_OK)
        return bh_db_commit(db, err);
    bh_db_rollback(db);
    return code;
}

enum bh_code
bh_tenant_put(struct bh_db *db, struct bh_arena *arena, const struct bh_tenant_wish *wish,
    struct bh_tenant *ret_tenant, enum bh_change *ret_change, struct bh_error *err)
{
    BH_TRY(bh_db_begin(db, err));
    return end_transaction(db, put_locked(db, arena, wish, ret_tenant, ret_change, err), err);
}

/* ---- delete ---- */

static enum bh_code
begin_removal(struct bh_db *db, const struct bh_tenant *tenant, struct bh_error *err)
{
    char operation[BH_OPERATION_ID];
    bool first = strcmp(tenant->state, bh_tenant_state_name(BH_TENANT_OFFBOARDING)) != 0;
    BH_TRY(bh_tenant_state_set(db, tenant->no, BH_TENANT_OFFBOARDING, err));
    BH_TRY(bh_db_run(db, NULL, err, "UPDATE tenant SET generation = generation + $2 WHERE no = $1",
        bh_number(tenant->no).text, first ? "1" : "0"));
    struct bh_operation_new start = {tenant->no, "offboard", tenant->generation + (first ? 1 : 0)};
    return bh_operation_start(db, &start, operation, err);
}

static enum bh_code
delete_locked(struct bh_db *db, struct bh_arena *arena, const char *id, const char *if_match,
    struct bh_tenant *ret_tenant, struct bh_error *err)
{
    BH_TRY(lock_id(db, id, err));
    enum bh_code code = find_living(db, arena, id, true, ret_tenant, err);
    if (code == BH_E_NOT_FOUND && if_match)
        return fail_absent_condition(id, err);
    BH_TRY(code);
    bool removing = strcmp(ret_tenant->state, bh_tenant_state_name(BH_TENANT_OFFBOARDING)) == 0;
    if (removing && ret_tenant->operation)
        return BH_OK;
    /* The etag that the first DELETE matched is old by now; asking again must still work. */
    if (!removing)
        BH_TRY(check_match(ret_tenant, if_match, err));
    BH_TRY(begin_removal(db, ret_tenant, err));
    return find_living(db, arena, id, false, ret_tenant, err);
}

enum bh_code
bh_tenant_delete(struct bh_db *db, struct bh_arena *arena, const char *id, const char *if_match,
    struct bh_tenant *ret_tenant, struct bh_error *err)
{
    BH_TRY(bh_db_begin(db, err));
    return end_transaction(db, delete_locked(db, arena, id, if_match, ret_tenant, err), err);
}

/* ---- list ---- */

/* ICU folds case in every language, whatever the locale of the registry. */
static const char list_sql[] =
    "SELECT " COLUMNS " FROM tenant t WHERE t.state <> 'gone'"
    " AND ($1::text IS NULL OR t.id > $1) AND ($2::text IS NULL OR t.state = $2)"
    " AND ($3::text IS NULL OR position(lower($3 COLLATE \"und-x-icu\") IN"
    "      lower(t.id COLLATE \"und-x-icu\")) > 0"
    "   OR position(lower($3 COLLATE \"und-x-icu\") IN lower(t.name COLLATE \"und-x-icu\")) > 0)"
    " ORDER BY t.id LIMIT $4";

enum bh_code
bh_tenant_list(struct bh_db *db, struct bh_arena *arena, const struct bh_list *list,
    struct bh_tenant **ret_tenants, size_t *ret_count, bool *ret_more, struct bh_error *err)
{
    PGresult *result;
    BH_TRY(bh_db_run(db, &result, err, list_sql, list->after, list->state, list->q,
        bh_number(list->limit + 1).text));
    int rows = PQntuples(result);
    int count = rows > list->limit ? list->limit : rows;
    struct bh_tenant *tenants =
        bh_arena_zalloc(arena, (size_t)(count + 1) * sizeof(struct bh_tenant));
    enum bh_code code = tenants ? BH_OK : bh_fail(err, BH_E_NO_MEMORY, "no memory for a list");
    for (int i = 0; code == BH_OK && i < count; i++) {
        read_row(result, i, arena, &tenants[i]);
        code = check_row(&tenants[i], err);
    }
    PQclear(result);
    BH_TRY(code);
    *ret_tenants = tenants;
    *ret_count = (size_t)count;
    *ret_more = rows > count;
    return BH_OK;
}
