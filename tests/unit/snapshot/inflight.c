/* Requests in flight: exact, whatever becomes of the workers that count them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "snapshot/columns.h"
#include "snapshot/counters.h"
#include "snapshot/inflight.h"

static char dir[64];
static char path[80];
static char beside[96];
static struct bh_counters *counters;

static int
begin(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/dev/shm/bh-inflight-XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    snprintf(path, sizeof(path), "%s/counters", dir);
    snprintf(beside, sizeof(beside), "%s%s", path, BH_INFLIGHT_SUFFIX);
    return bh_counters_open(path, true, &counters, NULL) == BH_OK ? 0 : -1;
}

static int
end(void **state)
{
    (void)state;
    bh_counters_close(counters);
    unlink(path);
    unlink(beside);
    return rmdir(dir);
}

static struct bh_inflight *
open_one(bool claim)
{
    struct bh_inflight *inflight = NULL;
    assert_int_equal(bh_inflight_open(path, counters, claim, &inflight, NULL), BH_OK);
    return inflight;
}

static void
test_sum_of_workers(void **state)
{
    (void)state;
    struct bh_inflight *a = open_one(true);
    struct bh_inflight *b = open_one(true);
    struct bh_inflight *reader = open_one(false);
    uint32_t index = bh_inflight_index(counters, bh_slot_claim(counters, 42));
    _Atomic uint32_t *first = bh_inflight_enter(a, index);
    _Atomic uint32_t *second = bh_inflight_enter(b, index);
    assert_ptr_equal(bh_inflight_enter(b, index), second);
    assert_true(first != second);
    assert_null(bh_inflight_enter(reader, index));
    assert_int_equal(bh_inflight_count(reader, index), 3);
    assert_int_equal(bh_inflight_count(reader, index + 1), 0);
    assert_int_equal(bh_inflight_count(reader, BH_COUNTERS_CAPACITY), 0);
    bh_inflight_sweep(a); /* both live: nothing is cleared */
    bh_inflight_sweep(reader);
    assert_int_equal(bh_inflight_count(a, index), 3);
    bh_inflight_leave(first);
    bh_inflight_leave(second);
    bh_inflight_leave(NULL);
    assert_int_equal(bh_inflight_count(a, index), 1);
    bh_inflight_close(b, true); /* with one request in flight, as a worker that was killed */
    bh_inflight_sweep(a);
    assert_int_equal(bh_inflight_count(reader, index), 0);
    struct stat st;
    assert_int_equal(stat(beside, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_true(st.st_blocks * 512 < 1 << 20); /* sparse */
    bh_inflight_close(a, true);
    bh_inflight_close(reader, true);
    bh_inflight_close(NULL, true);
}

/* Runs until it is killed, with ${count} requests in flight. */
static pid_t
start_worker(uint32_t index, int count)
{
    int ready[2];
    char byte = 'x';
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct bh_inflight *mine;
        if (bh_inflight_open(path, counters, true, &mine, NULL) == BH_OK) {
            while (count-- > 0) {
                (void)bh_inflight_enter(mine, index);
            }
            (void)!write(ready[1], &byte, 1);
        }
        pause();
        _exit(1);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static void
test_killed_workers(void **state)
{
    (void)state;
    struct bh_inflight *mine = open_one(true);
    uint32_t index = bh_inflight_index(counters, bh_slot_claim(counters, 7));
    (void)bh_inflight_enter(mine, index);
    pid_t stays = start_worker(index, 3);
    for (int round = 0; round < 2 * BH_COLUMNS; round++) { /* columns are used again */
        pid_t pid = start_worker(index, 5);
        assert_int_equal(bh_inflight_count(mine, index), 9);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        bh_inflight_sweep(mine);
        assert_int_equal(bh_inflight_count(mine, index), 4);
    }
    kill(stays, SIGKILL);
    waitpid(stays, NULL, 0);
    bh_inflight_sweep(mine);
    assert_int_equal(bh_inflight_count(mine, index), 1);
    bh_inflight_close(mine, true);
}

static void
test_no_column_left(void **state)
{
    (void)state;
    struct bh_inflight *all[BH_COLUMNS];
    struct bh_inflight *more;
    struct bh_error err;
    for (int i = 0; i < BH_COLUMNS; i++) {
        all[i] = open_one(true);
    }
    assert_int_equal(bh_inflight_open(path, counters, true, &more, &err), BH_E_UNAVAILABLE);
    bh_inflight_close(all[17], true);
    all[17] = open_one(true);
    for (int i = 0; i < BH_COLUMNS; i++) {
        bh_inflight_close(all[i], true);
    }
}

static void
test_other_counters_file(void **state)
{
    (void)state;
    struct bh_inflight *old = open_one(true);
    (void)bh_inflight_enter(old, 5);
    assert_false(bh_inflight_replaced(old, path));
    unlink(path);
    bh_counters_close(counters);
    assert_int_equal(bh_counters_open(path, true, &counters, NULL), BH_OK);
    struct bh_inflight *fresh = open_one(true);
    assert_int_equal(bh_inflight_count(fresh, 5), 0);
    assert_true(bh_inflight_replaced(old, path));
    assert_false(bh_inflight_replaced(fresh, path));
    unlink(beside);
    assert_true(bh_inflight_replaced(fresh, path));
    bh_inflight_close(old, true);
    bh_inflight_close(fresh, true);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sum_of_workers, begin, end),
        cmocka_unit_test_setup_teardown(test_killed_workers, begin, end),
        cmocka_unit_test_setup_teardown(test_no_column_left, begin, end),
        cmocka_unit_test_setup_teardown(test_other_counters_file, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
