#include "control/flow/work.h"

#include <stdio.h>

/* Leases live by the registry's clock alone. */
static const char take_sql[] =
    "UPDATE operation SET attempt = nextval('attempt_seq'), lease_owner = $1,"
    " lease_until = clock_timestamp() + $2::bigint * interval '1 ms'"
    " WHERE id = (SELECT o.id FROM operation o JOIN tenant t ON t.no = o.tenant_no"
    "  WHERE o.finished_at IS NULL AND t.cell = $3 AND o.wake_at <= clock_timestamp()"
    "  AND (o.lease_until IS NULL OR o.lease_until < clock_timestamp())"
    "  ORDER BY o.wake_at, o.id LIMIT 1 FOR UPDATE OF o SKIP LOCKED)"
    " RETURNING id, kind, state = 'undoing', tenant_no, attempt";

enum bh_code
bh_lease_take(struct bh_db *db, const struct bh_flow *flow, bool *ret_found,
    struct bh_lease *ret_lease, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(
        db, &r, err, take_sql, flow->owner, bh_number(flow->lease_ms).text, flow->config.cell));
    *ret_found = PQntuples(r) == 1;
    if (*ret_found) {
        snprintf(ret_lease->id, sizeof(ret_lease->id), "%s", PQgetvalue(r, 0, 0));
        snprintf(ret_lease->kind, sizeof(ret_lease->kind), "%s", PQgetvalue(r, 0, 1));
        ret_lease->undoing = PQgetvalue(r, 0, 2)[0] == 't';
        ret_lease->no = (int32_t)bh_db_int(r, 0, 3);
        ret_lease->attempt = bh_db_int(r, 0, 4);
    }
    PQclear(r);
    return BH_OK;
}

static enum bh_code
update_lease(struct bh_db *db, const struct bh_lease *lease, const char *sql, int64_t ms,
    struct bh_error *err)
{
    PGresult *r;
    BH_TRY(
        bh_db_run(db, &r, err, sql, lease->id, bh_number(lease->attempt).text, bh_number(ms).text));
    bool held = PQntuples(r) == 1;
    PQclear(r);
    if (!held)
        return bh_fail(err, BH_E_FENCED, "operation %s is not leased by attempt %lld any more",
            lease->id, (long long)lease->attempt);
    return BH_OK;
}

enum bh_code
bh_lease_beat(struct bh_db *db, const struct bh_lease *lease, int lease_ms, struct bh_error *err)
{
    return update_lease(db, lease,
        "UPDATE operation SET lease_until = clock_timestamp() + $3::bigint * interval '1 ms'"
        " WHERE id = $1 AND attempt = $2 AND finished_at IS NULL AND lease_until IS NOT NULL"
        " RETURNING id",
        lease_ms, err);
}

enum bh_code
bh_lease_release(
    struct bh_db *db, const struct bh_lease *lease, int64_t delay_ms, struct bh_error *err)
{
    return update_lease(db, lease,
        "UPDATE operation SET lease_until = NULL, lease_owner = NULL,"
        " wake_at = clock_timestamp() + $3::bigint * interval '1 ms'"
        " WHERE id = $1 AND attempt = $2 AND finished_at IS NULL RETURNING id",
        delay_ms, err);
}

enum bh_code
bh_lease_due_ms(struct bh_db *db, const char *cell, int *ret_ms, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err,
        /* greatest() passes over NULL, so that no operation at all must be said to be far away. */
        "SELECT least(1000, greatest(5, coalesce((extract(epoch from min(greatest(o.wake_at,"
        " o.lease_until)) - clock_timestamp()) * 1000)::bigint, 1000)))"
        " FROM operation o JOIN tenant t ON t.no = o.tenant_no"
        " WHERE o.finished_at IS NULL AND t.cell = $1",
        cell));
    *ret_ms = (int)bh_db_int(r, 0, 0);
    PQclear(r);
    return BH_OK;
}
