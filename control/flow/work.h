/*
 * What a worker knows while it runs one operation, and what it may write.
 *
 * Every write here is conditional: it happens in a transaction that holds the
 * operation's row and finds the attempt of our lease on it, else BH_E_FENCED
 * and the worker drops the operation without another word.
 */
#ifndef BH_CONTROL_FLOW_WORK_H
#define BH_CONTROL_FLOW_WORK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "control/flow/flow.h"
#include "control/registry/change.h"
#include "control/registry/registry.h"
#include "engine/driver.h"
#include "engine/postgres/postgres.h"

#define BH_FLOW_STEPS BH_PLAN_STEPS

struct bh_lease {
    char id[BH_OPERATION_ID];
    char kind[16];
    bool undoing;
    int32_t no;
    int64_t attempt;
};

struct bh_step_row {
    char name[32];
    char state[16];
    int64_t spent_ms; /* of its deadline */
    int attempt;
};

struct bh_worker {
    struct bh_flow *flow;
    pthread_t thread;
    unsigned index;
    struct bh_db *db; /* NULL: the registry is out of reach */
    struct bh_postgres postgres;

    pthread_mutex_t lock; /* guards what the heartbeat reads: */
    struct bh_lease lease;
    bool leased;
    bool frozen; /* by a failpoint */
};

struct bh_flow {
    struct bh_flow_config config;
    int lease_ms;
    struct bh_migration *migrations;
    size_t migration_count;
    struct bh_chunks memory; /* of the migrations */
    char owner[96];
    atomic_bool stopping;
    int wake_fd; /* readable once stopping */
    pthread_t heartbeat;
    struct bh_worker workers[];
};

/* One operation under way. */
struct bh_work {
    struct bh_worker *worker;
    const struct bh_flow_config *config;
    struct bh_db *db;
    struct bh_lease lease;
    const struct bh_plan *plan;
    struct bh_step_row steps[BH_FLOW_STEPS];
    int step_count;
    int position;            /* of the step that runs */
    struct bh_tenant tenant; /* as read before the step; lives in ${memory} */
    struct bh_chunks memory;
};

/* ---- the registry of flows (store.c) ---- */

/** bh_lease_take(db, flow, ret_found, ret_lease, err): lease the oldest operation that waits for a
 * worker. */
enum bh_code bh_lease_take(struct bh_db *db, const struct bh_flow *flow, bool *ret_found,
    struct bh_lease *ret_lease, struct bh_error *err) BH_MUSTCHECK;

/** bh_lease_beat(db, lease, lease_ms, err): prolong it; BH_E_FENCED where it is not ours any more.
 */
enum bh_code bh_lease_beat(struct bh_db *db, const struct bh_lease *lease, int lease_ms,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_lease_release(db, lease, delay_ms, err): let any worker go on after ${delay_ms}. */
enum bh_code bh_lease_release(struct bh_db *db, const struct bh_lease *lease, int64_t delay_ms,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_lease_due_ms(db, cell, ret_ms, err): how long until an operation waits for a worker, at most
 * 1000. */
enum bh_code bh_lease_due_ms(
    struct bh_db *db, const char *cell, int *ret_ms, struct bh_error *err) BH_MUSTCHECK;

/** bh_work_load(work, err): read the steps. */
enum bh_code bh_work_load(struct bh_work *work, struct bh_error *err) BH_MUSTCHECK;

/** bh_work_tenant(work, err): read the tenant anew into ${work}->tenant. */
enum bh_code bh_work_tenant(struct bh_work *work, struct bh_error *err) BH_MUSTCHECK;

/** bh_work_begin(work, err): open a transaction that holds tenant and operation, or BH_E_FENCED and
 * none is open. */
enum bh_code bh_work_begin(struct bh_work *work, struct bh_error *err) BH_MUSTCHECK;

/** bh_work_end(work, code, err): commit where ${code} is BH_OK, else roll back and return it. */
enum bh_code bh_work_end(
    struct bh_work *work, enum bh_code code, struct bh_error *err) BH_MUSTCHECK;

/* What is written about the step that runs. */
struct bh_step_change {
    const char *state;
    const struct bh_error *error; /* NULL: keeps what is there */
    bool starts;                  /* one more attempt */
    bool ends;
    int64_t spend_ms; /* added to what it spent; -1: back to 0 */
};
enum bh_code bh_work_step(
    struct bh_work *work, const struct bh_step_change *change, struct bh_error *err) BH_MUSTCHECK;

/** bh_work_note(work, note, err): remember ${note} (NULL: nothing) beside the step, inside the
 * caller's transaction. */
enum bh_code bh_work_note(
    struct bh_work *work, const char *note, struct bh_error *err) BH_MUSTCHECK;

/** bh_work_finish_ok(work, err): the operation succeeded; the tenant is what was desired. */
enum bh_code bh_work_finish_ok(struct bh_work *work, struct bh_error *err) BH_MUSTCHECK;

/** bh_work_finish_failed(work, state, problem, err): it ended as ${state} ("failed", "undone")
 * because of ${problem}. */
enum bh_code bh_work_finish_failed(struct bh_work *work, const char *state,
    const struct bh_error *problem, struct bh_error *err) BH_MUSTCHECK;

/** bh_work_undo(work, problem, err): from now on the operation undoes; the tenant is failed. */
enum bh_code bh_work_undo(
    struct bh_work *work, const struct bh_error *problem, struct bh_error *err) BH_MUSTCHECK;

/** bh_work_cause(work, ret_cause, err): what the failed step of an operation that undoes said. */
enum bh_code bh_work_cause(
    struct bh_work *work, struct bh_error *ret_cause, struct bh_error *err) BH_MUSTCHECK;

/* ---- steps (steps.c and step_*.c) ---- */

struct bh_flow_step {
    const char *name;
    int deadline_ms;
    enum bh_code (*ensure)(struct bh_work *work, struct bh_error *err);
    enum bh_code (*remove)(struct bh_work *work, struct bh_error *err); /* NULL: leaves nothing */
};

/** bh_flow_step_find(name): its row in the table, or NULL. */
const struct bh_flow_step *bh_flow_step_find(const char *name);

enum bh_code bh_step_database_ensure(struct bh_work *work, struct bh_error *err) BH_MUSTCHECK;
enum bh_code bh_step_database_remove(struct bh_work *work, struct bh_error *err) BH_MUSTCHECK;
enum bh_code bh_step_route(struct bh_work *work, struct bh_error *err) BH_MUSTCHECK;
enum bh_code bh_step_smoke(struct bh_work *work, struct bh_error *err) BH_MUSTCHECK;

/* ---- the rest ---- */

/** bh_migrations_read(dir, memory, ret_migrations, ret_count, err): the numbered .sql files of
 * ${dir} in order. */
enum bh_code bh_migrations_read(const char *dir, struct bh_arena *arena,
    struct bh_migration **ret_migrations, size_t *ret_count, struct bh_error *err) BH_MUSTCHECK;

/** bh_work_run(work): run the operation until it ends, is fenced, or waits for a retry (run.c). */
void bh_work_run(struct bh_work *work);

/** bh_worker_wait(worker, timeout_ms): until a notification, the end of the flow, or ${timeout_ms}.
 */
void bh_worker_wait(struct bh_worker *worker, int timeout_ms);

/** bh_flow_log(flow, fmt, ...): one line to the configured log. */
void bh_flow_log(const struct bh_flow *flow, const char *fmt, ...) BH_PRINTF(2, 3);

/** bh_now_ms(): a monotonic clock. */
int64_t bh_now_ms(void);

#endif
