#include "postgres.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/shmem.h"

#include "data/clock.h"
#include "data/enforce.h"
#include "data/limit.h"
#include "data/meter.h"
#include "data/raise.h"

#define BH_NS_PER_MS UINT64CONST(1000000)
#define REFUSE_NS (50 * BH_NS_PER_MS)
#define NOBODY (-1)

/* This backend's place in a line; under the lock of that line's share. */
struct place {
    int previous;
    int next;
    enum bh_line line;
};

static struct place *places; /* by index of PGPROC, for ordinary backends */

/* Of the bound transaction. */
static struct {
    struct bh_share *share; /* NULL: no limit, or nothing bound */
    int most;               /* statements at a time; 0: no limit */
    uint64 wait_ns;
    bool charged; /* has a budget */
    bool running; /* counted in share->running */
    bool waiting; /* has a place in the line */
    bool started; /* has run a statement */
} mine;

void
bh_enforce_request(void)
{
    RequestAddinShmemSpace(mul_size((Size)MaxBackends, sizeof(struct place)));
}

void
bh_enforce_startup(void)
{
    bool found;

    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    places = ShmemInitStruct(
        "bulkhead lines", mul_size((Size)MaxBackends, sizeof(struct place)), &found);
    LWLockRelease(AddinShmemInitLock);
}

void
bh_share_init(struct bh_share *share)
{
    memset(share, 0, sizeof(*share));
    SpinLockInit(&share->lock);
    for (int line = 0; line < BH_LINE_COUNT; line++)
        share->head[line] = share->tail[line] = NOBODY;
}

void
bh_share_load(struct bh_share *share, const struct bh_budget *budget)
{
    uint64 now = bh_clock_ns(CLOCK_MONOTONIC);

    memset(&share->rule, 0, sizeof(share->rule));
    share->budget = *budget;
    /* The machine's clock began anew since. */
    if (share->budget.at_ns > now)
        share->budget.at_ns = now;
}

/* ---- under the lock ---- */

static int
me(void)
{
    return (int)(MyProc - ProcGlobal->allProcs);
}

static int
first_in_line(const struct bh_share *share)
{
    int head = share->head[BH_LINE_STARTED];

    return head != NOBODY ? head : share->head[BH_LINE_FRESH];
}

static void
join_line(struct bh_share *share, enum bh_line line)
{
    int tail = share->tail[line];

    places[me()] = (struct place){.previous = tail, .next = NOBODY, .line = line};
    if (tail == NOBODY)
        share->head[line] = me();
    else
        places[tail].next = me();
    share->tail[line] = me();
    share->waiting++;
    mine.waiting = true;
}

static void
leave_line(struct bh_share *share)
{
    const struct place *place = &places[me()];

    if (place->previous == NOBODY)
        share->head[place->line] = place->next;
    else
        places[place->previous].next = place->next;
    if (place->next == NOBODY)
        share->tail[place->line] = place->previous;
    else
        places[place->next].previous = place->previous;
    share->waiting--;
    mine.waiting = false;
}

/* ---- leaving ---- */

static void
wake(int backend)
{
    if (backend != NOBODY)
        SetLatch(&ProcGlobal->allProcs[backend].procLatch);
}

static void
leave(void)
{
    int next;

    if (!mine.running && !mine.waiting)
        return;
    bh_meter_hold();
    SpinLockAcquire(&mine.share->lock);
    if (mine.waiting)
        leave_line(mine.share);
    if (mine.running)
        mine.share->running--;
    mine.running = false;
    next = first_in_line(mine.share);
    SpinLockRelease(&mine.share->lock);
    bh_meter_release();
    wake(next);
}

/* ---- a transaction ---- */

static struct bh_budget_rule
rule_of_limits(void)
{
    return (struct bh_budget_rule){.rate = bh_limits_count(BH_LIMIT_DATABASE_MS_PER_S),
        .burst = Max(1, bh_limits_count(BH_LIMIT_DATABASE_BURST_MS)) * BH_BUDGET_TOKENS_PER_MS,
        .debt = bh_limits_count(BH_LIMIT_DATABASE_DEBT_MS) * BH_BUDGET_TOKENS_PER_MS};
}

/* A tenant that had no budget begins with a full one; a smaller one spills. */
static void
set_rule(struct bh_share *share, const struct bh_budget_rule *rule)
{
    uint64 now;

    if (memcmp(&share->rule, rule, sizeof(*rule)) == 0)
        return;
    now = bh_clock_ns(CLOCK_MONOTONIC);
    bh_meter_hold();
    SpinLockAcquire(&share->lock);
    if (share->budget.at_ns == 0) {
        share->budget.level = rule->burst;
        share->budget.at_ns = now;
    }
    bh_budget_refill(&share->budget, share->rule.rate > 0 ? &share->rule : rule, now);
    share->budget.level = Min(share->budget.level, rule->burst);
    if (rule->rate == 0)
        memset(&share->budget, 0, sizeof(share->budget));
    share->rule = *rule;
    SpinLockRelease(&share->lock);
    bh_meter_release();
}

void
bh_enforce_begin(struct bh_share *share)
{
    struct bh_budget_rule rule = rule_of_limits();

    leave(); /* a statement that goes on in a further transaction has passed already */
    mine.most = bh_limits_count(BH_LIMIT_MAX_CONCURRENT_STATEMENTS);
    mine.charged = rule.rate > 0;
    mine.started = false;
    if (rule.rate == 0)
        memset(&rule, 0, sizeof(rule));
    if (mine.charged || share->rule.rate > 0)
        set_rule(share, &rule);
    mine.share = mine.charged || mine.most > 0 ? share : NULL;
    mine.wait_ns = (uint64)bh_limits_count(BH_LIMIT_MAX_WAIT_MS) * BH_NS_PER_MS;
}

bool
bh_enforce_charged(void)
{
    return mine.charged;
}

/* ---- the gate ---- */

/* Who goes before me: NOBODY also where I am first. */
static int
ahead_of_me(const struct bh_share *share)
{
    int first = mine.started ? share->head[BH_LINE_STARTED] : first_in_line(share);

    return first == me() ? NOBODY : first;
}

/* May I go on?  Then I run, and whoever is first in line now hears of it. */
static bool
pass(uint64 now, uint64 *ret_wait_ns)
{
    struct bh_share *share = mine.share;
    int next = NOBODY;
    bool room;

    bh_meter_hold();
    SpinLockAcquire(&share->lock);
    bh_budget_refill(&share->budget, &share->rule, now);
    *ret_wait_ns = mine.charged ? bh_budget_wait_ns(&share->budget, &share->rule) : 0;
    room = ahead_of_me(share) == NOBODY && (mine.most == 0 || share->running < mine.most) &&
           *ret_wait_ns == 0;
    if (room) {
        if (mine.waiting)
            leave_line(share);
        share->running++;
        mine.running = true;
        next = first_in_line(share);
    } else if (!mine.waiting) {
        join_line(share, mine.started ? BH_LINE_STARTED : BH_LINE_FRESH);
    }
    SpinLockRelease(&share->lock);
    bh_meter_release();
    wake(next);
    return room;
}

static int
milliseconds_up(uint64 ns)
{
    return (int)Min((ns + BH_NS_PER_MS - 1) / BH_NS_PER_MS, (uint64)PG_INT32_MAX);
}

/* Sleep until somebody wakes me, tokens have flowed in, or the bound is reached. */
static void
sleep_in_line(uint64 left_ns, uint64 tokens_ns)
{
    uint64 ns = tokens_ns > 0 ? Min(left_ns, tokens_ns) : left_ns;

    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, milliseconds_up(ns),
        PG_WAIT_EXTENSION);
    ResetLatch(MyLatch);
    CHECK_FOR_INTERRUPTS();
}

/*
 * Waiting will not help.  The refusal itself takes a moment: who repeats it at
 * once, again and again, must not burn the processor.
 */
static void
refuse(uint64 tokens_ns)
{
    uint64 now = bh_clock_ns(CLOCK_MONOTONIC);
    uint64 until = now + (tokens_ns > 0 ? Min(mine.wait_ns, REFUSE_NS) : 0);

    leave();
    for (; now < until; now = bh_clock_ns(CLOCK_MONOTONIC))
        sleep_in_line(until - now, 0);
    bh_raise_share(tokens_ns > 0 ? "database_ms_per_s" : "max_concurrent_statements",
        Max(1, milliseconds_up(tokens_ns > 0 ? tokens_ns : mine.wait_ns)));
}

/* Errors and interrupts leave the line through the end of the (sub)transaction, or the exit. */
static void
wait_in_line(uint64 tokens_ns)
{
    uint64 now = bh_clock_ns(CLOCK_MONOTONIC);
    uint64 until = now + mine.wait_ns;

    do {
        /* Whoever can see that it will not happen does not wait for it. */
        if (now >= until || tokens_ns > until - now)
            refuse(tokens_ns);
        sleep_in_line(until - now, tokens_ns);
        now = bh_clock_ns(CLOCK_MONOTONIC);
    } while (!pass(now, &tokens_ns));
}

bool
bh_enforce_gate(void)
{
    uint64 tokens_ns;

    if (mine.share == NULL)
        return false;
    if (mine.running) {
        /* A further statement of the same message: it keeps its place unless tokens are out. */
        if (!mine.charged || mine.share->budget.level > 0)
            return true;
        leave();
    }
    if (!pass(bh_clock_ns(CLOCK_MONOTONIC), &tokens_ns))
        wait_in_line(tokens_ns);
    mine.started = true;
    return true;
}

void
bh_enforce_pause(void)
{
    if (mine.share != NULL)
        leave();
}

void
bh_enforce_end(void)
{
    bh_enforce_pause();
    mine.share = NULL;
    mine.charged = false;
}

/* ---- time ---- */

void
bh_enforce_charge(struct bh_share *share, uint64 used_ns)
{
    uint64 now;

    if (share->rule.rate == 0 || used_ns == 0)
        return;
    now = bh_clock_ns(CLOCK_MONOTONIC);
    bh_meter_hold();
    SpinLockAcquire(&share->lock);
    if (share->rule.rate > 0) {
        bh_budget_refill(&share->budget, &share->rule, now);
        bh_budget_charge(&share->budget, &share->rule, used_ns);
    }
    SpinLockRelease(&share->lock);
    bh_meter_release();
}

void
bh_enforce_look(struct bh_share *share, int *ret_running, int *ret_waiting, int64 *ret_tokens)
{
    uint64 now = bh_clock_ns(CLOCK_MONOTONIC);

    bh_meter_hold();
    SpinLockAcquire(&share->lock);
    bh_budget_refill(&share->budget, &share->rule, now);
    *ret_running = share->running;
    *ret_waiting = share->waiting;
    *ret_tokens = share->rule.rate > 0 ? share->budget.level : 0;
    SpinLockRelease(&share->lock);
    bh_meter_release();
}
