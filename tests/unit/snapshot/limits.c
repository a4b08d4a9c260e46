/* Limits in shared memory: exact for whoever uses them, and nobody crowds out others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "snapshot/limitfile.h"
#include "snapshot/limits.h"

#define SECOND UINT64_C(1000000000)
#define NOON 1796126400 /* of 2026-12-01 */

static char dir[64];
static char path[80];
static struct bh_limits *limits;
static struct bh_limit_moment now;

static int
begin(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/dev/shm/bh-limits-XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    snprintf(path, sizeof(path), "%s/counters", dir);
    now = (struct bh_limit_moment){.now_ns = 1000 * SECOND, .wall_s = NOON, .no = 7, .share = 1000};
    return bh_limits_open(path, true, &limits, NULL) == BH_OK ? 0 : -1;
}

static int
end(void **state)
{
    char file[96];
    (void)state;
    bh_limits_close(limits, true);
    snprintf(file, sizeof(file), "%s" BH_LIMITS_SUFFIX, path);
    unlink(file);
    return rmdir(dir);
}

static struct bh_limit
rate(const char *name, enum bh_limit_per per, int64_t a_second, int64_t burst)
{
    return (struct bh_limit){.name = {name, strlen(name)},
        .kind = BH_LIMIT_RATE,
        .per = per,
        .rate = a_second,
        .amount = burst};
}

static struct bh_limit
quota(const char *name, int64_t amount, bool go_on)
{
    return (struct bh_limit){.name = {name, strlen(name)},
        .kind = BH_LIMIT_QUOTA,
        .window = BH_WINDOW_DAY,
        .amount = amount,
        .continue_when_lost = go_on};
}

static struct bh_limit
crowd(const char *name, enum bh_limit_per per, int64_t amount)
{
    return (struct bh_limit){
        .name = {name, strlen(name)}, .kind = BH_LIMIT_CONCURRENT, .per = per, .amount = amount};
}

static struct bh_str
client(unsigned i)
{
    static char text[32];
    int len = snprintf(text, sizeof(text), "client%u", i);
    return (struct bh_str){text, (size_t)len};
}

static struct bh_limit_use
use_of(const struct bh_limit *limit, struct bh_str who, uint64_t units)
{
    struct bh_limit_use use;
    bh_limit_use(limits, limit, &now, who, units, &use);
    return use;
}

static bool
take(const struct bh_limit *limit, struct bh_str who, struct bh_limit_use *ret_use)
{
    *ret_use = use_of(limit, who, 1);
    bh_limit_look(limits, &now, ret_use);
    bool looked = ret_use->allowed;
    bool took = bh_limit_take(limits, &now, ret_use);
    assert_int_equal(looked, took); /* nobody came between */
    return took;
}

static unsigned
take_all(const struct bh_limit *limit, struct bh_str who, unsigned tries)
{
    unsigned taken = 0;
    struct bh_limit_use use;
    for (unsigned i = 0; i < tries; i++) {
        taken += take(limit, who, &use);
    }
    return taken;
}

/* ---- rates ---- */

static void
every_client_has_its_own_rate(void **state)
{
    struct bh_limit limit = rate("reads", BH_PER_SUBJECT, 10, 20);
    struct bh_limit_use use;
    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(take_all(&limit, client(i), 25), 20);
    }
    now.now_ns += SECOND / 2;
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(take_all(&limit, client(i), 25), 5);
    }
    assert_false(take(&limit, client(3), &use));
    assert_true(use.q == 20 && use.w_s == 2 && use.left == 0 && use.t_s == 1);
    now.no = 8; /* another tenant's client of that name */
    assert_int_equal(take_all(&limit, client(3), 25), 20);
    struct bh_limit other = rate("writes", BH_PER_SUBJECT, 10, 20);
    assert_int_equal(take_all(&other, client(3), 25), 20);
    struct bh_limit whole = rate("reads", BH_PER_TENANT, 10, 20);
    assert_int_equal(take_all(&whole, client(3), 15) + take_all(&whole, client(4), 15), 20);
    now.share = 500; /* one edge of two */
    now.no = 9;
    assert_int_equal(take_all(&whole, client(3), 25), 20);
    now.now_ns += SECOND;
    assert_int_equal(take_all(&whole, client(3), 25), 5);
}

static void
what_is_given_back_is_there_again(void **state)
{
    struct bh_limit limit = rate("reads", BH_PER_TENANT, 10, 20);
    struct bh_limit_use uses[20], use;
    (void)state;
    for (unsigned i = 0; i < 20; i++) {
        assert_true(take(&limit, client(0), &uses[i]));
    }
    assert_false(take(&limit, client(0), &use));
    for (unsigned i = 0; i < 10; i++) {
        bh_limit_give(&uses[i], now.now_ns);
    }
    assert_int_equal(take_all(&limit, client(0), 25), 10);
    /* held for half of a request's time: half is given back; two halves are one */
    bh_limit_give(&uses[10], now.now_ns + SECOND / 20);
    assert_int_equal(take_all(&limit, client(0), 5), 0);
    bh_limit_give(&uses[11], now.now_ns + SECOND / 20);
    assert_int_equal(take_all(&limit, client(0), 5), 1);
    bh_limit_give(&uses[12], now.now_ns + SECOND);
    assert_int_equal(take_all(&limit, client(0), 5), 0);
}

static unsigned
cells_of(const struct bh_cells *cells, uint32_t no)
{
    unsigned sum = 0;
    for (uint32_t i = 0; i < cells->capacity; i++) {
        struct bh_cell *cell = (struct bh_cell *)(void *)(cells->base + i * cells->stride);
        sum += atomic_load(&cell->no) == no && atomic_load(&cell->state) > now.now_ns;
    }
    return sum;
}

static void
a_flood_of_clients_shares_and_crowds_out_nobody(void **state)
{
    struct bh_limit limit = rate("reads", BH_PER_ADDRESS, 1, 1);
    struct bh_limit_use use;
    unsigned taken = 0;
    (void)state;
    for (unsigned i = 0; i < 400000; i++) {
        use = use_of(&limit, client(i), 1);
        taken += bh_limit_take(limits, &now, &use);
    }
    unsigned held = cells_of(&limits->clients, now.no);
    assert_int_equal(taken, held + 1); /* one for all who have no place */
    assert_true(held > 150000 && held <= limits->clients.capacity / 32 * 6);
    struct bh_limit_use late = use_of(&limit, client(400001), 1);
    assert_true(bh_limit_take(limits, &now, &late) == !late.shared || !late.allowed);
    for (now.no = 100; now.no < 110; now.no++) {
        for (unsigned i = 0; i < 1000; i++) {
            use = use_of(&limit, client(i), 1);
            assert_true(bh_limit_take(limits, &now, &use) && !use.shared);
        }
    }
    now.no = 7;
    now.now_ns += 2 * SECOND; /* their time has passed */
    use = use_of(&limit, client(500000), 1);
    assert_true(bh_limit_take(limits, &now, &use) && !use.shared);
    assert_int_equal(cells_of(&limits->clients, 7), 1);
}

static void
a_claim_that_broke_off_is_taken_over(void **state)
{
    struct bh_limit limit = rate("reads", BH_PER_SUBJECT, 1, 1);
    struct bh_limit_use use = use_of(&limit, client(0), 1);
    (void)state;
    for (unsigned i = 0; i < 32; i++) { /* all of its places, by processes that are gone */
        size_t at = (size_t)((use.key.word[0] & (limits->clients.capacity - 32)) + i);
        struct bh_cell *cell =
            (struct bh_cell *)(void *)(limits->clients.base + at * limits->clients.stride);
        atomic_store(&cell->state, now.now_ns | BH_CELL_CLAIMED);
        atomic_store(&cell->key[0], use.key.word[0]);
        atomic_store(&cell->key[1], use.key.word[1]);
    }
    assert_true(bh_limit_take(limits, &now, &use) && use.shared);
    now.now_ns += 61 * SECOND;
    use = use_of(&limit, client(0), 1);
    assert_true(bh_limit_take(limits, &now, &use) && !use.shared);
    assert_int_equal(take_all(&limit, client(0), 5), 0);
}

/* ---- quotas ---- */

static struct bh_quota *seen[8];

static bool
see(struct bh_quota *one, void *arg)
{
    unsigned *count = arg;
    seen[(*count)++] = one;
    return *count < 8;
}

static unsigned
visit(void)
{
    unsigned count = 0;
    bh_limits_quotas(limits, see, &count);
    return count;
}

static void
a_quota_ends_exactly_at_its_lease(void **state)
{
    struct bh_limit limit = quota("daily", 320, false);
    struct bh_limit_use use;
    (void)state;
    assert_int_equal(visit(), 0);
    assert_int_equal(take_all(&limit, client(0), 30), 20);
    assert_int_equal(visit(), 1);
    assert_string_equal(seen[0]->name, "daily");
    assert_true(seen[0]->used == 20 && seen[0]->leased == 20 && seen[0]->amount == 320);
    assert_true(seen[0]->ends_s - seen[0]->begins_s == 86400 && seen[0]->ends_s == NOON + 43200);
    bh_limits_renewed(limits, now.now_ns);
    assert_false(take(&limit, client(0), &use));
    assert_true(use.wait_s == 1 && use.left == 0); /* there may be more in a moment */
    bh_quota_lease(seen[0], 50, 200);
    assert_int_equal(take_all(&limit, client(0), 60), 30);
    bh_quota_lease(seen[0], 40, 270); /* never lowered; now all is used or leased */
    assert_false(take(&limit, client(0), &use));
    assert_true(use.wait_s == 43200 && use.t_s == 43200 && use.w_s == 86400 && use.q == 320);
    bh_quota_lease(seen[0], 120, 200);
    assert_true(take(&limit, client(0), &use));
    assert_int_equal(use.left, 320 - 200 - 51);
    bh_limit_give(&use, now.now_ns);
    assert_int_equal(seen[0]->used, 50);
    limit.amount = 60; /* lowered by the tier */
    assert_int_equal(take_all(&limit, client(0), 60), 10);
}

static void
who_leases_sees_what_was_touched_once(void **state)
{
    struct bh_limit limit = quota("daily", 32, false);
    unsigned count = 0;
    (void)state;
    bh_limits_touched(limits, see, &count);
    assert_int_equal(count, 0);
    for (now.no = 1; now.no <= 4000; now.no += 1000) { /* far from each other */
        assert_int_equal(take_all(&limit, client(0), 1), 1);
    }
    bh_limits_touched(limits, see, &count);
    assert_int_equal(count, 4);
    count = 0;
    bh_limits_touched(limits, see, &count);
    assert_int_equal(count, 0);
    now.no = 1001;
    assert_int_equal(take_all(&limit, client(0), 5), 1); /* used up, then refused */
    bh_limits_touched(limits, see, &count);
    assert_true(count == 1 && seen[0]->used == 2 && seen[0]->cell.no == 1001);
    count = 0;
    assert_int_equal(take_all(&limit, client(0), 1), 0); /* only refused */
    bh_limits_touched(limits, see, &count);
    assert_int_equal(count, 1);
    for (now.no = 1; now.no <= 9000; now.no += 1000) {
        (void)take_all(&limit, client(0), 3);
    }
    count = 0; /* it stops at eight, and the next time goes on where it stopped */
    bh_limits_touched(limits, see, &count);
    assert_int_equal(count, 8);
    count = 0;
    bh_limits_touched(limits, see, &count);
    assert_in_range(count, 1, 2);
}

static void
a_lost_control_plane_follows_the_policy(void **state)
{
    struct bh_limit stops = quota("stops", 160, false);
    struct bh_limit goes = quota("goes", 160, true);
    (void)state;
    assert_true(bh_limits_lost(limits, now.now_ns)); /* nobody ever renewed */
    assert_int_equal(take_all(&goes, client(0), 300), 160);
    now.no = 8;
    bh_limits_renewed(limits, now.now_ns);
    assert_int_equal(take_all(&stops, client(0), 300), 10);
    assert_int_equal(take_all(&goes, client(0), 300), 10);
    now.now_ns += 30 * SECOND;
    assert_int_equal(take_all(&goes, client(0), 300), 0);
    now.now_ns += 1;
    assert_int_equal(take_all(&stops, client(0), 300), 0);
    assert_int_equal(visit(), 3);
    for (unsigned i = 0; i < 3; i++) {
        if (seen[i]->cell.no == 8) {
            bh_quota_lease(seen[i], 0, 50);
        }
    }
    assert_int_equal(take_all(&goes, client(0), 300), 160 - 10 - 50);
    bh_limits_renewed(limits, now.now_ns);
    assert_false(bh_limits_lost(limits, now.now_ns));
}

static void
no_window_is_filled_twice(void **state)
{
    struct bh_limit limit = quota("daily", 16, true);
    (void)state;
    assert_int_equal(take_all(&limit, client(0), 30), 16);
    now.wall_s += 43200; /* the next day */
    now.now_ns += 43200 * SECOND;
    assert_int_equal(take_all(&limit, client(0), 30), 16);
    now.wall_s -= 3600; /* the clock steps back over midnight, and forth */
    assert_int_equal(take_all(&limit, client(0), 30), 0);
    now.wall_s += 3600;
    assert_int_equal(take_all(&limit, client(0), 30), 0);
    now.wall_s += 30 * 86400; /* a step that was wrong, and put right */
    assert_int_equal(take_all(&limit, client(0), 30), 16);
    now.wall_s -= 30 * 86400;
    assert_int_equal(take_all(&limit, client(0), 30), 0);
}

static void
bytes_are_put_right_at_the_end(void **state)
{
    struct bh_limit limit = quota("bytes", 1000, true);
    (void)state;
    limit.unit = BH_UNIT_BYTES;
    struct bh_limit_use use = use_of(&limit, client(0), 999);
    assert_true(bh_limit_take(limits, &now, &use));
    struct bh_limit_use last = use_of(&limit, client(0), 500); /* anything is left: admitted */
    assert_true(bh_limit_take(limits, &now, &last));
    struct bh_limit_use none = use_of(&limit, client(0), 1);
    assert_false(bh_limit_take(limits, &now, &none));
    assert_int_equal(visit(), 1);
    assert_int_equal(seen[0]->used, 1499);
    bh_limit_settle(&last, 100);
    bh_limit_settle(&use, 1200);
    assert_int_equal(seen[0]->used, 1300);
    assert_int_equal(seen[0]->unit, 1);
}

/* A request may run for longer than its window's cell is kept: what it sends late is nobody else's.
 */
static void
a_late_end_is_not_charged_to_the_next_owner(void **state)
{
    char name[16];
    struct bh_limit limit = quota("bytes", 1000, true);
    struct bh_limit_use late, use;
    (void)state;
    limit.unit = BH_UNIT_BYTES;
    limit.window = BH_WINDOW_HOUR;
    late = use_of(&limit, client(0), 500);
    assert_true(bh_limit_take(limits, &now, &late));
    struct bh_limit_use back = late;
    now.wall_s += 86400;
    now.now_ns += 86400 * SECOND;
    unsigned tries = 0;
    do {
        snprintf(name, sizeof(name), "q%u", tries);
        limit.name = (struct bh_str){name, strlen(name)};
        use = use_of(&limit, client(0), 300);
        assert_true(bh_limit_take(limits, &now, &use));
        limit.amount += 1000;
        now.wall_s += 86400; /* all that was tried is free again */
        now.now_ns += 86400 * SECOND;
    } while (use.cell != late.cell && ++tries < 1000);
    assert_ptr_equal(use.cell, late.cell);
    bh_limit_settle(&late, 9000);
    bh_limit_give(&back, now.now_ns);
    assert_int_equal(((struct bh_quota *)use.cell)->used, 300);
    bh_limit_settle(&use, 400); /* its own cell, and nobody took it: charged */
    assert_int_equal(((struct bh_quota *)use.cell)->used, 400);
}

/* Tenants number by number with as many quotas as a tier may sensibly have, hour after hour. */
static void
neighbours_with_quotas_all_have_room(void **state)
{
    struct bh_limit limits_of_tier[] = {quota("calls-hour", 1000, true),
        quota("bytes-hour", 1000, true), quota("calls-day", 1000, true),
        quota("calls-month", 1000, true)};
    struct bh_limit_use use;
    (void)state;
    limits_of_tier[0].window = limits_of_tier[1].window = BH_WINDOW_HOUR;
    limits_of_tier[3].window = BH_WINDOW_MONTH;
    for (unsigned hour = 0; hour < 30; hour++) {
        for (now.no = 100; now.no < 200; now.no++) {
            for (size_t i = 0; i < 4; i++) {
                assert_true(take(&limits_of_tier[i], client(0), &use));
            }
        }
        now.wall_s += 3600;
        now.now_ns += 3600 * SECOND;
    }
}

/* ---- concurrent ---- */

static void
so_many_run_at_once(void **state)
{
    struct bh_limit limit = crowd("parallel", BH_PER_SUBJECT, 3);
    struct bh_limit_use uses[4], use;
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        assert_true(take(&limit, client(0), &uses[i]));
        assert_int_equal(uses[i].left, 2 - i);
    }
    assert_false(take(&limit, client(0), &use));
    assert_true(use.q == 3 && use.w_s == 0 && use.left == 0 && use.wait_s == 1);
    assert_true(take(&limit, client(1), &use));
    now.now_ns += 3600 * SECOND; /* however long they run */
    assert_int_equal(take_all(&limit, client(2), 5), 3);
    assert_false(take(&limit, client(0), &use));
    bh_limit_settle(&uses[1], 0);
    bh_limit_settle(&uses[1], 0); /* once */
    assert_int_equal(take_all(&limit, client(0), 5), 1);
}

static void
what_a_killed_worker_held_is_free_again(void **state)
{
    struct bh_limit limit = crowd("parallel", BH_PER_TENANT, 10);
    int pipes[2];
    char byte;
    (void)state;
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    if (pid == 0) {
        limits = NULL;
        _exit(bh_limits_open(path, true, &limits, NULL) == BH_OK &&
                      take_all(&limit, client(0), 8) == 8 && write(pipes[1], "x", 1) == 1
                  ? pause()
                  : 1);
    }
    assert_int_equal(read(pipes[0], &byte, 1), 1);
    assert_int_equal(take_all(&limit, client(0), 10), 2);
    bh_limits_sweep(limits);
    assert_int_equal(take_all(&limit, client(0), 10), 0);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    bh_limits_sweep(limits);
    assert_int_equal(take_all(&limit, client(0), 10), 8);
    close(pipes[0]);
    close(pipes[1]);
}

/* ---- many at once ---- */

#define HAMMERS 6
#define KEYS 64

struct tally {
    _Atomic uint32_t taken[KEYS];
    _Atomic uint32_t running[KEYS];
    _Atomic uint32_t most[KEYS];
    _Atomic uint32_t kills;
};

static void
hammer(struct tally *tally, unsigned seed)
{
    struct bh_limit burst = rate("reads", BH_PER_SUBJECT, 1, 50);
    struct bh_limit few = crowd("parallel", BH_PER_SUBJECT, 2);
    struct bh_limit_use use, runs;
    if (bh_limits_open(path, true, &limits, NULL) != BH_OK) {
        _exit(1);
    }
    for (unsigned i = 0; i < 60000; i++) {
        unsigned key = (unsigned)rand_r(&seed) % KEYS;
        runs = use_of(&few, client(key), 1);
        if (!bh_limit_take(limits, &now, &runs)) {
            continue;
        }
        uint32_t running = atomic_fetch_add(&tally->running[key], 1) + 1;
        if (running > atomic_load(&tally->most[key])) {
            atomic_store(&tally->most[key], running);
        }
        use = use_of(&burst, client(key), 1);
        if (bh_limit_take(limits, &now, &use)) {
            atomic_fetch_add(&tally->taken[key], 1);
        }
        atomic_fetch_sub(&tally->running[key], 1);
        bh_limit_settle(&runs, 0);
    }
    _exit(0);
}

static void
wait_all(pid_t pids[HAMMERS], bool all_well)
{
    for (unsigned i = 0; i < HAMMERS; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_true(!all_well || status == 0);
    }
}

static void
start(pid_t pids[HAMMERS], struct tally *tally, unsigned seed)
{
    for (unsigned i = 0; i < HAMMERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            hammer(tally, seed + i);
        }
    }
}

static struct tally *
new_tally(void)
{
    return mmap(
        NULL, sizeof(struct tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static void
many_processes_admit_exactly_the_burst(void **state)
{
    struct tally *tally = new_tally();
    pid_t pids[HAMMERS];
    (void)state;
    start(pids, tally, 1);
    wait_all(pids, true);
    for (unsigned i = 0; i < KEYS; i++) {
        assert_int_equal(tally->taken[i], 50);
        assert_in_range(tally->most[i], 1, 2);
    }
}

/* Killed at any instruction: at most what each was about to count is missing, never one too many.
 */
static void
killed_processes_leave_the_limits_exact(void **state)
{
    struct tally *tally = new_tally();
    unsigned seed = (unsigned)time(NULL);
    pid_t pids[HAMMERS];
    unsigned kills = 0;
    (void)state;
    print_message("seed %u\n", seed);
    for (unsigned round = 0; round < 20; round++) {
        start(pids, tally, seed + round * HAMMERS);
        for (unsigned i = 0; i < HAMMERS; i++) {
            usleep((unsigned)rand_r(&seed) % 2000);
            kill(pids[i], SIGKILL);
            kills++;
        }
        wait_all(pids, false);
    }
    for (unsigned i = 0; i < KEYS; i++) {
        atomic_store(&tally->running[i], 0);
        atomic_store(&tally->most[i], 0);
    }
    start(pids, tally, seed);
    wait_all(pids, true);
    unsigned missing = 0;
    for (unsigned i = 0; i < KEYS; i++) {
        assert_in_range(tally->taken[i], 0, 50);
        assert_in_range(tally->most[i], 1, 2);
        missing += 50 - tally->taken[i];
    }
    assert_true(missing <= kills);
}

static void
a_file_that_is_gone_is_noticed(void **state)
{
    char file[96];
    (void)state;
    assert_false(bh_limits_replaced(limits, path));
    snprintf(file, sizeof(file), "%s" BH_LIMITS_SUFFIX, path);
    unlink(file);
    assert_true(bh_limits_replaced(limits, path));
    struct bh_limits *fresh;
    assert_int_equal(bh_limits_open(path, false, &fresh, NULL), BH_OK);
    assert_true(bh_limits_replaced(limits, path));
    assert_false(bh_limits_replaced(fresh, path));
    bh_limits_close(fresh, true);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, begin, end)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(every_client_has_its_own_rate),
        CASE(what_is_given_back_is_there_again),
        CASE(a_flood_of_clients_shares_and_crowds_out_nobody),
        CASE(a_claim_that_broke_off_is_taken_over),
        CASE(a_quota_ends_exactly_at_its_lease),
        CASE(who_leases_sees_what_was_touched_once),
        CASE(a_lost_control_plane_follows_the_policy),
        CASE(no_window_is_filled_twice),
        CASE(bytes_are_put_right_at_the_end),
        CASE(a_late_end_is_not_charged_to_the_next_owner),
        CASE(neighbours_with_quotas_all_have_room),
        CASE(so_many_run_at_once),
        CASE(what_a_killed_worker_held_is_free_again),
        CASE(many_processes_admit_exactly_the_burst),
        CASE(killed_processes_leave_the_limits_exact),
        CASE(a_file_that_is_gone_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
