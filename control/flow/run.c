#include "control/flow/work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control/failpoint.h"
#include "core/buf.h"

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 5000

/* How the try of a step went. */
enum verdict {
    VERDICT_DONE,
    VERDICT_LATER,  /* the lease is given up until a retry is due */
    VERDICT_LOST,   /* the operation is another worker's, or the registry is out of reach */
    VERDICT_FAILED, /* and trying again will not help */
};

static bool
is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static bool
is_transient(enum bh_code code)
{
    return code == BH_E_UNAVAILABLE || code == BH_E_CONFLICT || code == BH_E_TIMEOUT ||
           code == BH_E_NO_MEMORY;
}

/* Half of it is chance, so that what failed together does not come back together. */
static int64_t
backoff_ms(int attempt)
{
    int shift = attempt < 1 ? 0 : (attempt > 7 ? 6 : attempt - 1);
    int64_t full = (int64_t)BACKOFF_FIRST_MS << shift;
    if (full > BACKOFF_MAX_MS)
        full = BACKOFF_MAX_MS;
    return full / 2 + arc4random_uniform((uint32_t)(full / 2) + 1);
}

/* ---- failpoints ---- */

static void
set_frozen(struct bh_worker *worker, bool frozen)
{
    pthread_mutex_lock(&worker->lock);
    worker->frozen = frozen;
    pthread_mutex_unlock(&worker->lock);
}

static void
freeze(struct bh_worker *worker)
{
    struct timespec slice = {.tv_nsec = 20 * 1000000L};
    int64_t until = bh_now_ms() + bh_failpoint_delay_ms();
    set_frozen(worker, true);
    while (bh_now_ms() < until && !atomic_load(&worker->flow->stopping))
        nanosleep(&slice, NULL);
    set_frozen(worker, false);
}

static enum bh_code
pass(struct bh_work *work, const char *step, const char *when, struct bh_error *err)
{
    switch (bh_failpoint_pass(work->config->state_dir, step, when)) {
    case BH_FAILPOINT_ERROR:
        return bh_fail(err, BH_E_ENGINE, "failpoint %s:%s", step, when);
    case BH_FAILPOINT_DELAY:
        freeze(work->worker);
        return BH_OK;
    case BH_FAILPOINT_NONE:
        return BH_OK;
    }
    return BH_OK;
}

/* ---- one step ---- */

static enum bh_code
act(struct bh_work *work, const struct bh_flow_step *step, bool removes, struct bh_error *err)
{
    enum bh_code (*effect)(struct bh_work *, struct bh_error *) =
        removes ? step->remove : step->ensure;
    if (!effect)
        return BH_OK;
    BH_TRY(pass(work, step->name, "before", err));
    BH_TRY(effect(work, err));
    return pass(work, step->name, "after", err);
}

static enum verdict
lost(struct bh_work *work, const struct bh_error *err)
{
    bh_flow_log(work->worker->flow, "operation %s dropped by attempt %lld: %s", work->lease.id,
        (long long)work->lease.attempt, err->detail);
    return VERDICT_LOST;
}

static enum verdict
retry_later(
    struct bh_work *work, const char *state, const struct bh_error *cause, int64_t elapsed_ms)
{
    struct bh_error err;
    struct bh_step_row *row = &work->steps[work->position];
    int64_t delay = backoff_ms(row->attempt);
    /* A step that failed keeps what it said, also while it is undone. */
    struct bh_step_change change = {.state = state,
        .error = is(state, "failed") ? NULL : cause,
        .ends = is(state, "failed"),
        .spend_ms = elapsed_ms + delay};
    bh_flow_log(work->worker->flow, "operation %s: step %s failed at try %d, again in %lld ms: %s",
        work->lease.id, row->name, row->attempt, (long long)delay, cause->detail);
    if (bh_work_step(work, &change, &err) != BH_OK ||
        bh_lease_release(work->db, &work->lease, delay, &err) != BH_OK)
        return lost(work, &err);
    return VERDICT_LATER;
}

/* The states that a step goes through while it is tried, and when that went well. */
struct stages {
    bool removes;
    const char *during;
    const char *after;
};

static enum verdict
judge(struct bh_work *work, const struct bh_flow_step *step, const struct stages *stages,
    const struct bh_error *cause, int64_t elapsed_ms)
{
    struct bh_step_row *row = &work->steps[work->position];
    int64_t deadline = work->config->deadline_ms ? work->config->deadline_ms : step->deadline_ms;
    if (cause->code == BH_E_FENCED)
        return lost(work, cause);
    if (is_transient(cause->code) && row->spent_ms + elapsed_ms < deadline)
        return retry_later(work, stages->during, cause, elapsed_ms);
    return VERDICT_FAILED;
}

static enum verdict
try_step(struct bh_work *work, const struct stages *stages, struct bh_error *ret_cause)
{
    struct bh_error err;
    const struct bh_flow_step *step = bh_flow_step_find(work->steps[work->position].name);
    struct bh_step_change starts = {
        .state = stages->during, .starts = true, .ends = is(stages->during, stages->after)};
    struct bh_step_change ends = {.state = stages->after, .ends = true};
    if (!step) {
        bh_fail(ret_cause, BH_E_INTERNAL, "there is no such step here");
        return VERDICT_FAILED;
    }
    if (bh_work_step(work, &starts, &err) != BH_OK)
        return lost(work, &err);
    int64_t start_ms = bh_now_ms();
    if (act(work, step, stages->removes, ret_cause) != BH_OK)
        return judge(work, step, stages, ret_cause, bh_now_ms() - start_ms);
    if (bh_work_step(work, &ends, &err) != BH_OK)
        return lost(work, &err);
    return VERDICT_DONE;
}

/* ---- undoing ---- */

static void
finish_failed(struct bh_work *work, const char *state, const struct bh_error *problem)
{
    struct bh_error err;
    if (bh_work_finish_failed(work, state, problem, &err) != BH_OK) {
        lost(work, &err);
        return;
    }
    bh_flow_log(work->worker->flow, "operation %s (%s of tenant number %d) %s: %s", work->lease.id,
        work->lease.kind, work->lease.no, state, problem->detail);
}

static void
hint_resume(struct bh_work *work, struct bh_error *problem)
{
    bh_hint(problem, "remove the cause, then: bulkhead op resume %s", work->lease.id);
}

/* Latest first; a step that failed may have done half its work, so it is undone like the others. */
static enum verdict
undo_steps(struct bh_work *work, struct bh_buf *undone, struct bh_error *ret_cause)
{
    for (work->position = work->step_count - 1; work->position >= 0; work->position--) {
        struct bh_step_row *row = &work->steps[work->position];
        const struct bh_flow_step *step = bh_flow_step_find(row->name);
        bool failed = is(row->state, "failed");
        struct stages stages = {true, failed ? "failed" : "undoing", failed ? "failed" : "undone"};
        if (is(row->state, "waiting"))
            continue;
        enum verdict verdict =
            is(row->state, "undone") ? VERDICT_DONE : try_step(work, &stages, ret_cause);
        if (verdict != VERDICT_DONE)
            return verdict;
        if (step && step->remove)
            bh_buf_printf(undone, "%s%s", undone->len ? ", " : "", row->name);
    }
    return VERDICT_DONE;
}

static void
undo(struct bh_work *work)
{
    struct bh_error cause;
    struct bh_error failure;
    struct bh_error problem;
    char storage[128];
    struct bh_buf undone;
    bh_buf_init(&undone, storage, sizeof(storage));
    if (bh_work_cause(work, &cause, &failure) != BH_OK) {
        lost(work, &failure);
        return;
    }
    enum verdict verdict = undo_steps(work, &undone, &failure);
    if (verdict == VERDICT_LATER || verdict == VERDICT_LOST)
        return;
    if (verdict == VERDICT_FAILED)
        bh_fail(&problem, cause.code, "%.220s; undoing step %s failed: %.220s", cause.detail,
            work->steps[work->position].name, failure.detail);
    else
        bh_fail(&problem, cause.code, "%.400s; undone: %s", cause.detail,
            undone.len ? storage : "nothing, for nothing was made");
    hint_resume(work, &problem);
    finish_failed(work, verdict == VERDICT_FAILED ? "failed" : "undone", &problem);
}

/* ---- the operation ---- */

static void
fail(struct bh_work *work, struct bh_error *cause)
{
    struct bh_error err;
    struct bh_error problem;
    hint_resume(work, cause);
    struct bh_step_change change = {.state = "failed", .error = cause, .ends = true};
    bh_fail(&problem, cause->code, "step %s failed: %s", work->steps[work->position].name,
        cause->detail);
    hint_resume(work, &problem);
    if (bh_work_step(work, &change, &err) != BH_OK) {
        lost(work, &err);
        return;
    }
    if (!is(work->plan->kind, "onboard")) {
        finish_failed(work, "failed", &problem);
        return;
    }
    if (bh_work_undo(work, &problem, &err) != BH_OK)
        lost(work, &err);
    else
        undo(work);
}

static void
finish_ok(struct bh_work *work)
{
    struct bh_error err;
    if (bh_work_finish_ok(work, &err) != BH_OK)
        lost(work, &err);
    else
        bh_flow_log(work->worker->flow, "operation %s (%s of tenant number %d) succeeded",
            work->lease.id, work->lease.kind, work->lease.no);
}

static void
give_back(struct bh_work *work)
{
    struct bh_error err;
    if (bh_lease_release(work->db, &work->lease, 0, &err) != BH_OK)
        lost(work, &err);
}

static void
forward(struct bh_work *work)
{
    struct bh_error cause;
    struct stages stages = {work->plan->removes, "running", "done"};
    for (work->position = 0; work->position < work->step_count; work->position++) {
        if (is(work->steps[work->position].state, "done"))
            continue;
        if (atomic_load(&work->worker->flow->stopping)) {
            give_back(work);
            return;
        }
        enum verdict verdict = try_step(work, &stages, &cause);
        if (verdict == VERDICT_FAILED)
            fail(work, &cause);
        if (verdict != VERDICT_DONE)
            return;
    }
    finish_ok(work);
}

void
bh_work_run(struct bh_work *work)
{
    struct bh_error err;
    if (bh_work_load(work, &err) != BH_OK)
        lost(work, &err);
    else if (work->lease.undoing)
        undo(work);
    else
        forward(work);
}
