#include "control/registry/registry.h"

#include <string.h>

#include "control/registry/change.h"
#include "control/registry/failure.h"

#define COLUMNS                                                                                    \
    "o.id, o.kind, t.id, o.generation, o.state, o.error, " BH_SQL_US(                              \
        "o.created_at") ", " BH_SQL_US("o.finished_at")

/* ---- start ---- */

static enum bh_code
supersede(struct bh_db *db, int32_t no, const char *by, struct bh_error *err)
{
    struct bh_error why;
    char problem[BH_FAILURE_MAX];
    bh_fail(&why, BH_E_CONFLICT, "superseded by %s", by);
    bh_hint(&why, "watch it: bulkhead op watch %s", by);
    bh_failure_write(&why, problem);
    return bh_db_run(db, NULL, err,
        "WITH old AS (UPDATE operation SET state = 'failed', error = $2,"
        "  finished_at = clock_timestamp(), lease_until = NULL"
        "  WHERE tenant_no = $1 AND finished_at IS NULL RETURNING id)"
        " UPDATE step SET state = 'failed', error = $2, finished_at = clock_timestamp()"
        " FROM old WHERE operation = old.id AND state IN ('running', 'undoing')",
        bh_number(no).text, problem);
}

static enum bh_code
insert_operation(struct bh_db *db, const char *id, const struct bh_operation_new *start,
    const struct bh_plan *plan, struct bh_error *err)
{
    BH_TRY(bh_db_run(db, NULL, err,
        "INSERT INTO operation (id, kind, tenant_no, generation, state)"
        " VALUES ($1, $2, $3, $4, 'running')",
        id, start->kind, bh_number(start->no).text, bh_number(start->generation).text));
    for (int i = 0; i < BH_PLAN_STEPS && plan->steps[i]; i++)
        BH_TRY(bh_db_run(db, NULL, err,
            "INSERT INTO step (operation, position, name, state) VALUES ($1, $2, $3, 'waiting')",
            id, bh_number(i).text, plan->steps[i]));
    return BH_OK;
}

enum bh_code
bh_operation_start(struct bh_db *db, const struct bh_operation_new *start,
    char ret_id[BH_OPERATION_ID], struct bh_error *err)
{
    const struct bh_plan *plan = bh_plan_find(start->kind);
    if (!plan)
        return bh_fail(err, BH_E_INTERNAL, "there is no kind of operation %s", start->kind);
    BH_TRY(bh_operation_id_new(ret_id, err));
    BH_TRY(supersede(db, start->no, ret_id, err));
    BH_TRY(insert_operation(db, ret_id, start, plan, err));
    BH_TRY(bh_db_run(db, NULL, err,
        "UPDATE tenant SET operation = $2, failure = NULL, updated_at = clock_timestamp()"
        " WHERE no = $1",
        bh_number(start->no).text, ret_id));
    return bh_db_run(db, NULL, err, "SELECT pg_notify('bulkhead_flow', $1)", ret_id);
}

/* ---- read ---- */

static void
read_row(const PGresult *r, int row, struct bh_arena *arena, struct bh_operation *ret_operation)
{
    *ret_operation = (struct bh_operation){
        .id = bh_db_text(r, row, 0, arena),
        .kind = bh_db_text(r, row, 1, arena),
        .tenant = bh_db_text(r, row, 2, arena),
        .generation = bh_db_int(r, row, 3),
        .state = bh_db_text(r, row, 4, arena),
        .error = bh_db_text(r, row, 5, arena),
        .created_us = bh_db_int(r, row, 6),
        .finished_us = bh_db_int(r, row, 7),
    };
}

static void
read_step(const PGresult *r, int row, struct bh_arena *arena, struct bh_step *ret_step)
{
    *ret_step = (struct bh_step){
        .name = bh_db_text(r, row, 0, arena),
        .state = bh_db_text(r, row, 1, arena),
        .attempt = (int32_t)bh_db_int(r, row, 2),
        .error = bh_db_text(r, row, 3, arena),
        .started_us = bh_db_int(r, row, 4),
        .finished_us = bh_db_int(r, row, 5),
    };
}

static enum bh_code
no_memory(struct bh_error *err)
{
    return bh_fail(err, BH_E_NO_MEMORY, "no memory for operations");
}

static enum bh_code
read_steps(
    struct bh_db *db, struct bh_arena *arena, struct bh_operation *operation, struct bh_error *err)
{
    PGresult *result;
    BH_TRY(bh_db_run(db, &result, err,
        "SELECT name, state, attempt, error, " BH_SQL_US("started_at") ", " BH_SQL_US(
            "finished_at") " FROM step WHERE operation = $1 ORDER BY position",
        operation->id));
    int count = PQntuples(result);
    operation->steps = bh_arena_zalloc(arena, (size_t)(count + 1) * sizeof(struct bh_step));
    for (int i = 0; operation->steps && i < count; i++)
        read_step(result, i, arena, &operation->steps[i]);
    operation->step_count = (size_t)count;
    PQclear(result);
    return operation->steps ? BH_OK : no_memory(err);
}

static enum bh_code
take_rows(struct bh_db *db, struct bh_arena *arena, const PGresult *result, int count,
    struct bh_operation **ret_operations, struct bh_error *err)
{
    struct bh_operation *operations =
        bh_arena_zalloc(arena, (size_t)(count + 1) * sizeof(struct bh_operation));
    if (!operations)
        return no_memory(err);
    for (int i = 0; i < count; i++) {
        read_row(result, i, arena, &operations[i]);
        if (!operations[i].id || !operations[i].state)
            return no_memory(err);
        BH_TRY(read_steps(db, arena, &operations[i], err));
    }
    *ret_operations = operations;
    return BH_OK;
}

enum bh_code
bh_operation_get(struct bh_db *db, struct bh_arena *arena, const char *id,
    struct bh_operation *ret_operation, struct bh_error *err)
{
    PGresult *result;
    struct bh_operation *operation = NULL;
    BH_TRY(bh_db_run(db, &result, err,
        "SELECT " COLUMNS " FROM operation o JOIN tenant t ON t.no = o.tenant_no WHERE o.id = $1",
        id));
    int rows = PQntuples(result);
    enum bh_code code = take_rows(db, arena, result, rows, &operation, err);
    PQclear(result);
    BH_TRY(code);
    if (rows == 0) {
        bh_fail(err, BH_E_NOT_FOUND, "there is no operation %s", id);
        return bh_hint(err, "list them with: bulkhead op list");
    }
    *ret_operation = operation[0];
    return BH_OK;
}

/* Also what was done to a tenant that is gone by now. */
static const char list_sql[] =
    "SELECT " COLUMNS " FROM operation o JOIN tenant t ON t.no = o.tenant_no"
    " WHERE ($1::text IS NULL OR o.id < $1) AND ($2::text IS NULL OR o.state = $2)"
    " AND ($3::text IS NULL OR t.id = $3)"
    " AND ($4::text IS NULL OR position(lower($4 COLLATE \"und-x-icu\") IN lower(o.id)) > 0)"
    " ORDER BY o.id DESC LIMIT $5";

enum bh_code
bh_operation_list(struct bh_db *db, struct bh_arena *arena, const struct bh_list *list,
    struct bh_operation **ret_operations, size_t *ret_count, bool *ret_more, struct bh_error *err)
{
    PGresult *result;
    BH_TRY(bh_db_run(db, &result, err, list_sql, list->after, list->state, list->tenant, list->q,
        bh_number(list->limit + 1).text));
    int rows = PQntuples(result);
    int count = rows > list->limit ? list->limit : rows;
    enum bh_code code = take_rows(db, arena, result, count, ret_operations, err);
    PQclear(result);
    BH_TRY(code);
    *ret_count = (size_t)count;
    *ret_more = rows > count;
    return BH_OK;
}

/* ---- resume ---- */

struct resumption {
    struct bh_operation_new start;
    char state[16];
    char tenant_state[16];
    char newest[BH_OPERATION_ID];
};

static enum bh_code
read_resumption(
    struct bh_db *db, const char *id, struct resumption *ret_resumption, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT t.no, t.generation, o.state, t.state,"
        " (SELECT max(id) FROM operation WHERE tenant_no = t.no)"
        " FROM operation o JOIN tenant t ON t.no = o.tenant_no WHERE o.id = $1 FOR UPDATE OF t",
        id));
    int rows = PQntuples(r);
    if (rows == 1) {
        ret_resumption->start = (struct bh_operation_new){
            .no = (int32_t)bh_db_int(r, 0, 0), .generation = bh_db_int(r, 0, 1)};
        snprintf(ret_resumption->state, sizeof(ret_resumption->state), "%s", PQgetvalue(r, 0, 2));
        snprintf(ret_resumption->tenant_state, sizeof(ret_resumption->tenant_state), "%s",
            PQgetvalue(r, 0, 3));
        snprintf(ret_resumption->newest, sizeof(ret_resumption->newest), "%s", PQgetvalue(r, 0, 4));
    }
    PQclear(r);
    if (rows == 1)
        return BH_OK;
    bh_fail(err, BH_E_NOT_FOUND, "there is no operation %s", id);
    return bh_hint(err, "list them with: bulkhead op list");
}

/* What brings a tenant of this state to what is desired of it. */
static const char *
kind_for(const char *tenant_state)
{
    static const struct {
        enum bh_tenant_state state;
        const char *kind;
    } table[] = {
        {BH_TENANT_PENDING, "onboard"},
        {BH_TENANT_FAILED, "onboard"},
        {BH_TENANT_ACTIVE, "update"},
        {BH_TENANT_OFFBOARDING, "offboard"},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (strcmp(bh_tenant_state_name(table[i].state), tenant_state) == 0)
            return table[i].kind;
    return NULL;
}

static enum bh_code
resume_locked(struct bh_db *db, const char *id, char ret_id[BH_OPERATION_ID], struct bh_error *err)
{
    struct resumption resumption;
    BH_TRY(read_resumption(db, id, &resumption, err));
    if (strcmp(resumption.newest, id) != 0) {
        bh_fail(err, BH_E_CONFLICT, "operation %s is not the newest of its tenant", id);
        return bh_hint(err, "look at the newest: bulkhead op get %s", resumption.newest);
    }
    bool ended = strcmp(resumption.state, "failed") == 0 || strcmp(resumption.state, "undone") == 0;
    if (!ended && strcmp(resumption.state, "succeeded") != 0) {
        snprintf(ret_id, BH_OPERATION_ID, "%s", resumption.newest);
        return BH_OK;
    }
    resumption.start.kind = kind_for(resumption.tenant_state);
    if (!ended || !resumption.start.kind)
        return bh_fail(err, BH_E_CONFLICT, "operation %s succeeded: nothing is left to do", id);
    if (strcmp(resumption.tenant_state, bh_tenant_state_name(BH_TENANT_FAILED)) == 0)
        BH_TRY(bh_tenant_state_set(db, resumption.start.no, BH_TENANT_PENDING, err));
    return bh_operation_start(db, &resumption.start, ret_id, err);
}

enum bh_code
bh_operation_resume(struct bh_db *db, struct bh_arena *arena, const char *id,
    struct bh_operation *ret_operation, struct bh_error *err)
{
    char resumed[BH_OPERATION_ID];
    BH_TRY(bh_db_begin(db, err));
    enum bh_code code = resume_locked(db, id, resumed, err);
    if (code != BH_OK) {
        bh_db_rollback(db);
        return code;
    }
    BH_TRY(bh_db_commit(db, err));
    return bh_operation_get(db, arena, resumed, ret_operation, err);
}
