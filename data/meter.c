#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "executor/instrument.h"
#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/timeout.h"

#include "data/clock.h"
#include "data/compat.h"
#include "data/enforce.h"
#include "data/meter.h"
#include "data/settings.h"
#include "data/slot.h"
#include "data/usage.h"

#define FLUSH_MS 100

volatile sig_atomic_t bh_meter_held;

/* Whom this backend works for.  Its entry stays pinned until it works for somebody else. */
static struct {
    struct bh_usage_entry *entry;
    bool bound;      /* in a bound transaction, or a worker of one */
    bool committing; /* COMMIT was said: what runs now, runs at the end of the transaction */
    bool ended;      /* the transaction is over, its last statement is not */
    bool ready;      /* timer and exit are registered */
} work;

/* What PostgreSQL and a clock said; a few of their counters, because this is read twice a window.
 */
struct reading {
    uint64 time_ns;
    int64 hit;
    int64 read;
    int64 dirtied;
    int64 temp;
    uint64 wal_bytes;
};

/* The window that is open. */
static struct {
    uint32 id; /* 0: none */
    int nest;  /* subtransaction level at which it was opened */
    clockid_t clock;
    struct reading last; /* accounted up to here */
} window;

/* What happens until the client's message is done. */
static struct {
    bool watched;
    bool rolled_back; /* it says ROLLBACK: the abort is no error */
    uint32 window;    /* of a fast-path call */
} message;

static uint64 sums[BH_USAGE_COUNT]; /* not yet in shared memory */
static uint32 last_window;
static uint32 function_window; /* opened by a function outside of everything */
static int function_depth;
static TimeoutId timer;

/* ---- sums; inside bh_meter_hold(), or in the timer ---- */

static void
mark(void)
{
    window.last = (struct reading){.time_ns = bh_clock_ns(window.clock),
        .hit = pgBufferUsage.shared_blks_hit,
        .read = pgBufferUsage.shared_blks_read,
        .dirtied = pgBufferUsage.shared_blks_dirtied,
        .temp = pgBufferUsage.temp_blks_written,
        .wal_bytes = pgWalUsage.wal_bytes};
}

/* Add what the open window used since it was last accounted.  A worker's blocks and WAL come
 * through its leader. */
static void
account(void)
{
    struct reading before = window.last;
    const struct reading *now = &window.last;

    if (window.id == 0)
        return;
    mark();
    sums[BH_USAGE_DB_ACTIVE_US] += now->time_ns - before.time_ns;
    if (IsParallelWorker())
        return;
    sums[BH_USAGE_DB_BLOCKS_HIT] += (uint64)(now->hit - before.hit);
    sums[BH_USAGE_DB_BLOCKS_READ] += (uint64)(now->read - before.read);
    sums[BH_USAGE_DB_BLOCKS_DIRTIED] += (uint64)(now->dirtied - before.dirtied);
    sums[BH_USAGE_DB_TEMP_BYTES] += (uint64)(now->temp - before.temp) * BLCKSZ;
    sums[BH_USAGE_DB_WAL_BYTES] += now->wal_bytes - before.wal_bytes;
}

static void
flush(void)
{
    uint64 used_ns = sums[BH_USAGE_DB_ACTIVE_US];

    if (work.entry == NULL) {
        memset(sums, 0, sizeof(sums)); /* its file failed: never the next tenant's */
        return;
    }
    for (int i = 0; i < BH_USAGE_COUNT; i++) {
        if (sums[i] != 0)
            pg_atomic_fetch_add_u64(&work.entry->values[i], (int64)sums[i]);
        sums[i] = 0;
    }
    bh_enforce_charge(&work.entry->share, used_ns);
}

void
bh_meter_flush(void)
{
    bh_meter_hold();
    account();
    flush();
    bh_meter_release();
}

void
bh_meter_add(enum bh_usage_meter meter, uint64 amount)
{
    bh_meter_hold();
    sums[meter] += amount;
    bh_meter_release();
}

/* In a signal handler.  It goes on while a window is open; the next one starts it again. */
static void
tick(void)
{
    bool held = bh_meter_held != 0;

    if (!held) {
        account();
        flush();
    }
    if (held || window.id != 0)
        enable_timeout_after(timer, FLUSH_MS);
}

/* ---- whom for ---- */

static void
exits(int code pg_attribute_unused(), Datum arg pg_attribute_unused())
{
    struct bh_usage_entry *entry = work.entry;

    bh_enforce_end();
    bh_meter_hold();
    account();
    flush();
    window.id = 0;
    work.entry = NULL;
    bh_meter_release();
    if (entry != NULL)
        bh_usage_unpin(entry);
}

static void
work_for(int32 no)
{
    struct bh_usage_entry *before = work.entry;

    if (!work.ready) {
        timer = RegisterTimeout(USER_TIMEOUT, tick);
        on_shmem_exit(exits, (Datum)0);
        work.ready = true;
    }
    if (before == NULL || before->no != no) {
        bh_meter_hold();
        account();
        flush();
        work.entry = NULL;
        work.bound = false;
        bh_meter_release();
        if (before != NULL)
            bh_usage_unpin(before);
        work.entry = bh_usage_pin(no);
    }
    work.bound = true;
}

void
bh_meter_begin(int32 no)
{
    if (!bh_metering)
        return;
    work_for(no);
    work.committing = false;
    work.ended = false;
    message.rolled_back = false;
    bh_enforce_begin(&work.entry->share);
}

/* A parallel worker works for its leader's tenant. */
static void
join_leader(void)
{
    const char *id;
    int32 no = bh_slot_read(BH_BACKEND_LEADER, &id);

    if (no != 0)
        work_for(no);
}

/* ---- windows ---- */

/* PostgreSQL resets the memory of a message before it reads the next one. */
static void
message_ends(void *arg pg_attribute_unused())
{
    uint32 id = message.window;

    memset(&message, 0, sizeof(message));
    bh_meter_close(id);
    bh_enforce_pause();
}

static void
watch_message(void)
{
    static MemoryContextCallback callback = {.func = message_ends};

    if (!message.watched)
        MemoryContextRegisterResetCallback(MessageContext, &callback);
    message.watched = true;
}

/*
 * Not at the end of a transaction, which nobody may hold up: the message Sync
 * has no text.  A worker's leader has passed.
 */
static void
gate(void)
{
    if (debug_query_string != NULL && !work.committing && !IsParallelWorker() && bh_enforce_gate())
        watch_message();
}

/* Returns 0 where a window is open already, or nobody is measured. */
uint32
bh_meter_open(bool gated)
{
    if (unlikely(IsParallelWorker()) && !work.bound)
        join_leader();
    if (!work.bound || window.id != 0)
        return 0;
    if (gated)
        gate();
    if (unlikely(++last_window == 0))
        last_window = 1;
    bh_meter_hold();
    window.nest = GetCurrentTransactionNestLevel();
    window.clock = CLOCK_MONOTONIC;
    mark();
    window.id = last_window;
    bh_meter_release();
    /* At an error PostgreSQL stops all timers. */
    if (unlikely(!get_timeout_active(timer)))
        enable_timeout_after(timer, FLUSH_MS);
    return last_window;
}

static void
stop_working(void)
{
    bh_enforce_end();
    work.bound = false;
    work.committing = false;
    work.ended = false;
}

void
bh_meter_close(uint32 id)
{
    if (id == 0 || window.id != id)
        return;
    bh_meter_hold();
    account();
    window.id = 0;
    if (bh_enforce_charged() || IsParallelWorker())
        flush();
    bh_meter_release();
    if (unlikely(work.ended))
        stop_working();
}

/* What waits for data of the client is measured by the processor's time. */
void
bh_meter_use_processor_time(uint32 id)
{
    if (id == 0)
        return;
    bh_meter_hold();
    window.clock = CLOCK_PROCESS_CPUTIME_ID;
    mark();
    bh_meter_release();
}

/* ---- statements and functions ---- */

void
bh_meter_transaction(const TransactionStmt *stmt)
{
    if (stmt->kind == TRANS_STMT_ROLLBACK || stmt->kind == TRANS_STMT_ROLLBACK_TO) {
        message.rolled_back = true;
        watch_message();
    }
    if (stmt->kind == TRANS_STMT_COMMIT)
        work.committing = true;
}

bool
bh_meter_outside(void)
{
    return work.bound && window.id == 0 && !IsParallelWorker();
}

void
bh_meter_begin_function(void)
{
    if (window.id == 0) {
        function_window = bh_meter_open(true);
        function_depth = 0;
    }
    if (function_window != 0 && window.id == function_window)
        function_depth++;
}

/* After an error the end of the (sub)transaction closes the window. */
void
bh_meter_end_function(bool failed)
{
    if (function_window == 0 || window.id != function_window || --function_depth > 0)
        return;
    if (!failed)
        bh_meter_close(function_window);
    function_window = 0;
}

void
bh_meter_fast_path(void)
{
    if (debug_query_string != NULL || !work.bound || window.id != 0 || work.committing)
        return;
    watch_message();
    (void)bh_enforce_gate();
    message.window = bh_meter_open(false);
    bh_meter_add(BH_USAGE_DB_STATEMENTS, 1);
}

/* ---- the end ---- */

/* An error has left the window, or happened outside of one. */
static void
failed(void)
{
    if (window.id != 0 || (!message.rolled_back && !proc_exit_inprogress))
        bh_meter_add(BH_USAGE_DB_ERRORS, 1);
    bh_meter_hold();
    account();
    window.id = 0;
    flush(); /* the error has stopped the timer */
    bh_meter_release();
    function_window = 0;
}

/*
 * VACUUM, CREATE INDEX CONCURRENTLY and procedures end transactions inside one
 * statement, in a tenant's own database: it is measured to its end.  Errors have
 * left their portal when they abort.
 */
static void
transaction_ends(bool aborted)
{
    if (!work.bound || IsParallelWorker())
        return;
    if (window.id != 0 && ActivePortal != NULL && !proc_exit_inprogress) {
        work.ended = true;
        return;
    }
    if (aborted)
        failed();
    bh_meter_close(window.id);
    stop_working();
}

static void
xact_ends(XactEvent event, void *arg pg_attribute_unused())
{
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
        transaction_ends(event == XACT_EVENT_ABORT);
}

static void
subxact_ends(SubXactEvent event, SubTransactionId id pg_attribute_unused(),
    SubTransactionId parent pg_attribute_unused(), void *arg pg_attribute_unused())
{
    if (event != SUBXACT_EVENT_ABORT_SUB || !work.bound || IsParallelWorker())
        return;
    /* Caught inside the statement, which goes on. */
    if (window.id != 0 && GetCurrentTransactionNestLevel() > window.nest)
        return;
    failed();
    bh_enforce_pause();
}

void
bh_meter_register(void)
{
    RegisterXactCallback(xact_ends, NULL);
    RegisterSubXactCallback(subxact_ends, NULL);
}
