#include "control/flow/work.h"

#include <stdio.h>
#include <string.h>

#include "control/registry/failure.h"

/* ---- reading ---- */

enum bh_code
bh_work_load(struct bh_work *work, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(work->db, &r, err,
        "SELECT name, state, spent_ms, attempt FROM step WHERE operation = $1 ORDER BY position",
        work->lease.id));
    int count = PQntuples(r);
    for (int i = 0; i < count && i < BH_FLOW_STEPS; i++) {
        struct bh_step_row *step = &work->steps[i];
        snprintf(step->name, sizeof(step->name), "%s", PQgetvalue(r, i, 0));
        snprintf(step->state, sizeof(step->state), "%s", PQgetvalue(r, i, 1));
        step->spent_ms = bh_db_int(r, i, 2);
        step->attempt = (int)bh_db_int(r, i, 3);
    }
    PQclear(r);
    work->step_count = count;
    work->plan = bh_plan_find(work->lease.kind);
    if (count > BH_FLOW_STEPS || !work->plan)
        return bh_fail(
            err, BH_E_INTERNAL, "operation %s is of a kind or length unknown here", work->lease.id);
    return BH_OK;
}

enum bh_code
bh_work_tenant(struct bh_work *work, struct bh_error *err)
{
    PGresult *r;
    struct bh_arena *arena = &work->memory.arena;
    BH_TRY(bh_db_run(work->db, &r, err,
        "SELECT id, uid, epoch, cell, server, database FROM tenant WHERE no = $1",
        bh_number(work->lease.no).text));
    bool found = PQntuples(r) == 1;
    if (found)
        work->tenant = (struct bh_tenant){
            .no = work->lease.no,
            .id = bh_db_text(r, 0, 0, arena),
            .uid = bh_db_text(r, 0, 1, arena),
            .epoch = bh_db_int(r, 0, 2),
            .cell = bh_db_text(r, 0, 3, arena),
            .server = bh_db_text(r, 0, 4, arena),
            .database = bh_db_text(r, 0, 5, arena),
        };
    PQclear(r);
    if (!found || !work->tenant.id || !work->tenant.uid || !work->tenant.cell)
        return bh_fail(err, BH_E_INTERNAL, "tenant number %d cannot be read", work->lease.no);
    return BH_OK;
}

enum bh_code
bh_work_cause(struct bh_work *work, struct bh_error *ret_cause, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(work->db, &r, err,
        "SELECT name, error->>'detail', error->>'code' FROM step"
        " WHERE operation = $1 AND state = 'failed' ORDER BY position LIMIT 1",
        work->lease.id));
    if (PQntuples(r) == 1)
        bh_fail(ret_cause, bh_code_find(PQgetvalue(r, 0, 2)), "step %s failed: %s",
            PQgetvalue(r, 0, 0), PQgetvalue(r, 0, 1));
    else
        bh_fail(ret_cause, BH_E_INTERNAL, "a step failed");
    PQclear(r);
    return BH_OK;
}

/* ---- the condition of every write ---- */

/* Tenant before operation, as everybody does. */
static enum bh_code
hold(struct bh_work *work, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(work->db, NULL, err, "SELECT FROM tenant WHERE no = $1 FOR UPDATE",
        bh_number(work->lease.no).text));
    BH_TRY(bh_db_run(work->db, &r, err,
        "SELECT FROM operation WHERE id = $1 AND attempt = $2 AND finished_at IS NULL FOR UPDATE",
        work->lease.id, bh_number(work->lease.attempt).text));
    bool held = PQntuples(r) == 1;
    PQclear(r);
    if (!held)
        return bh_fail(err, BH_E_FENCED, "operation %s has gone on without attempt %lld",
            work->lease.id, (long long)work->lease.attempt);
    return BH_OK;
}

enum bh_code
bh_work_begin(struct bh_work *work, struct bh_error *err)
{
    BH_TRY(bh_db_begin(work->db, err));
    enum bh_code code = hold(work, err);
    if (code != BH_OK)
        bh_db_rollback(work->db);
    return code;
}

enum bh_code
bh_work_end(struct bh_work *work, enum bh_code code, struct bh_error *err)
{
    if (code == BH_OK)
        return bh_db_commit(work->db, err);
    bh_db_rollback(work->db);
    return code;
}

/* ---- steps ---- */

static const char step_sql[] =
    "WITH held AS (SELECT id FROM operation WHERE id = $1 AND attempt = $2"
    "  AND finished_at IS NULL FOR UPDATE)"
    " UPDATE step SET state = $4, "
    " error = CASE WHEN $4 = 'done' THEN NULL ELSE coalesce($5::jsonb, step.error) END,"
    " attempt = step.attempt + $6, started_at = coalesce(started_at, clock_timestamp()),"
    " finished_at = CASE WHEN $7 THEN clock_timestamp() END,"
    " spent_ms = CASE WHEN $8::int < 0 THEN 0 ELSE spent_ms + $8::int END"
    " FROM held WHERE operation = held.id AND position = $3 RETURNING attempt, spent_ms";

enum bh_code
bh_work_step(struct bh_work *work, const struct bh_step_change *change, struct bh_error *err)
{
    PGresult *r;
    char failure[BH_FAILURE_MAX];
    struct bh_step_row *step = &work->steps[work->position];
    if (change->error)
        bh_failure_write(change->error, failure);
    BH_TRY(bh_db_run(work->db, &r, err, step_sql, work->lease.id,
        bh_number(work->lease.attempt).text, bh_number(work->position).text, change->state,
        change->error ? failure : NULL, change->starts ? "1" : "0", change->ends ? "t" : "f",
        bh_number(change->spend_ms).text));
    bool held = PQntuples(r) == 1;
    if (held) {
        step->attempt = (int)bh_db_int(r, 0, 0);
        step->spent_ms = bh_db_int(r, 0, 1);
        snprintf(step->state, sizeof(step->state), "%s", change->state);
    }
    PQclear(r);
    if (!held)
        return bh_fail(err, BH_E_FENCED, "operation %s has gone on without attempt %lld",
            work->lease.id, (long long)work->lease.attempt);
    return BH_OK;
}

enum bh_code
bh_work_note(struct bh_work *work, const char *note, struct bh_error *err)
{
    return bh_db_run(work->db, NULL, err,
        "UPDATE step SET note = $3 WHERE operation = $1 AND position = $2", work->lease.id,
        bh_number(work->position).text, note);
}

/* ---- ends ---- */

static enum bh_code
end_operation(struct bh_work *work, const char *state, const char *failure, struct bh_error *err)
{
    BH_TRY(bh_db_run(work->db, NULL, err,
        "UPDATE operation SET state = $2, error = $3, finished_at = clock_timestamp(),"
        " lease_until = NULL, lease_owner = NULL WHERE id = $1",
        work->lease.id, state, failure));
    return bh_db_run(work->db, NULL, err,
        "UPDATE tenant SET operation = NULL, failure = $2, updated_at = clock_timestamp()"
        " WHERE no = $1",
        bh_number(work->lease.no).text, failure);
}

/* A generation that came while the flow ran and did not supersede it needed nothing from it. */
static enum bh_code
end_well(struct bh_work *work, struct bh_error *err)
{
    enum bh_tenant_state state = work->plan->removes ? BH_TENANT_GONE : BH_TENANT_ACTIVE;
    BH_TRY(bh_tenant_state_set(work->db, work->lease.no, state, err));
    BH_TRY(bh_db_run(work->db, NULL, err,
        "UPDATE tenant SET observed_generation = generation WHERE no = $1",
        bh_number(work->lease.no).text));
    return end_operation(work, "succeeded", NULL, err);
}

enum bh_code
bh_work_finish_ok(struct bh_work *work, struct bh_error *err)
{
    BH_TRY(bh_work_begin(work, err));
    return bh_work_end(work, end_well(work, err), err);
}

/* What was undone has no place any more; the next onboarding chooses again. */
static enum bh_code
end_badly(
    struct bh_work *work, const char *state, const struct bh_error *problem, struct bh_error *err)
{
    char failure[BH_FAILURE_MAX];
    bh_failure_write(problem, failure);
    if (strcmp(state, "undone") == 0)
        BH_TRY(bh_db_run(work->db, NULL, err,
            "UPDATE tenant SET server = NULL, database = NULL WHERE no = $1",
            bh_number(work->lease.no).text));
    return end_operation(work, state, failure, err);
}

enum bh_code
bh_work_finish_failed(
    struct bh_work *work, const char *state, const struct bh_error *problem, struct bh_error *err)
{
    BH_TRY(bh_work_begin(work, err));
    return bh_work_end(work, end_badly(work, state, problem, err), err);
}

static enum bh_code
begin_undo(struct bh_work *work, const struct bh_error *problem, struct bh_error *err)
{
    char failure[BH_FAILURE_MAX];
    bh_failure_write(problem, failure);
    BH_TRY(bh_tenant_state_set(work->db, work->lease.no, BH_TENANT_FAILED, err));
    BH_TRY(bh_db_run(work->db, NULL, err, "UPDATE tenant SET failure = $2 WHERE no = $1",
        bh_number(work->lease.no).text, failure));
    /* Undoing has deadlines of its own. */
    BH_TRY(bh_db_run(
        work->db, NULL, err, "UPDATE step SET spent_ms = 0 WHERE operation = $1", work->lease.id));
    return bh_db_run(work->db, NULL, err,
        "UPDATE operation SET state = 'undoing', error = $2 WHERE id = $1", work->lease.id,
        failure);
}

enum bh_code
bh_work_undo(struct bh_work *work, const struct bh_error *problem, struct bh_error *err)
{
    BH_TRY(bh_work_begin(work, err));
    BH_TRY(bh_work_end(work, begin_undo(work, problem, err), err));
    work->lease.undoing = true;
    for (int i = 0; i < work->step_count; i++)
        work->steps[i].spent_ms = 0;
    return BH_OK;
}
