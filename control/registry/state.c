#include "control/registry/change.h"

/* From (row) to (column): pending, active, suspended, moving, failed, offboarding, gone. */
#define BIT(state) (1U << BH_TENANT_##state)
static const unsigned allowed[BH_TENANT_STATE_COUNT] = {
    [BH_TENANT_PENDING] = BIT(ACTIVE) | BIT(FAILED) | BIT(OFFBOARDING),
    [BH_TENANT_ACTIVE] = BIT(OFFBOARDING),
    [BH_TENANT_SUSPENDED] = BIT(ACTIVE) | BIT(OFFBOARDING),
    [BH_TENANT_MOVING] = BIT(ACTIVE) | BIT(OFFBOARDING),
    [BH_TENANT_FAILED] = BIT(PENDING) | BIT(OFFBOARDING),
    [BH_TENANT_OFFBOARDING] = BIT(GONE),
    [BH_TENANT_GONE] = 0,
};

static enum bh_code
current_state(struct bh_db *db, int32_t no, enum bh_tenant_state *ret_state, struct bh_error *err)
{
    PGresult *result;
    BH_TRY(bh_db_run(
        db, &result, err, "SELECT state FROM tenant WHERE no = $1 FOR UPDATE", bh_number(no).text));
    bool found = PQntuples(result) == 1 &&
                 bh_tenant_state_find(bh_str_of(PQgetvalue(result, 0, 0)), ret_state);
    PQclear(result);
    if (!found)
        return bh_fail(err, BH_E_INTERNAL, "tenant number %d has no known state", no);
    return BH_OK;
}

enum bh_code
bh_tenant_state_set(struct bh_db *db, int32_t no, enum bh_tenant_state to, struct bh_error *err)
{
    enum bh_tenant_state from;
    BH_TRY(current_state(db, no, &from, err));
    if (from == to)
        return BH_OK;
    if (!(allowed[from] & (1U << to)))
        return bh_fail(err, BH_E_INTERNAL, "tenant number %d cannot go from %s to %s", no,
            bh_tenant_state_name(from), bh_tenant_state_name(to));
    if (to == BH_TENANT_GONE) /* its domains are free */
        BH_TRY(bh_db_run(db, NULL, err, "DELETE FROM domain WHERE no = $1", bh_number(no).text));
    return bh_db_run(db, NULL, err,
        "UPDATE tenant SET state = $2, updated_at = clock_timestamp() WHERE no = $1",
        bh_number(no).text, bh_tenant_state_name(to));
}
