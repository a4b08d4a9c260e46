/* The counters file: made once, shared by all, never taken for another version. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "snapshot/counters.h"

static char dir[64];
static char path[80];

static int
make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/dev/shm/bh-counters-XXXXXX");
    if (mkdtemp(dir) == NULL) {
        return -1;
    }
    snprintf(path, sizeof(path), "%s/counters", dir);
    return 0;
}

static int
drop_dir(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

static void
test_create(void **state)
{
    (void)state;
    struct bh_counters *a;
    struct bh_counters *b;
    assert_int_equal(bh_counters_open(path, false, &a, NULL), BH_E_NOT_READY);
    assert_int_equal(bh_counters_open(path, true, &a, NULL), BH_OK);
    assert_int_equal(bh_counters_open(path, false, &b, NULL), BH_OK);
    assert_true(a != b);
    assert_true(a->file_epoch != 0);
    assert_true(a->file_epoch == b->file_epoch);
    struct bh_slot *slot = bh_slot_claim(a, 42);
    assert_non_null(slot);
    bh_slot_add(slot, BH_METER_REQUESTS, 5);
    struct bh_slot *same = bh_slot_claim(b, 42);
    assert_int_equal(atomic_load(&same->meters[BH_METER_REQUESTS]), 5);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_blocks * 512 < 1 << 20); /* sparse */
    assert_int_equal(st.st_mode & 0777, 0600);
    bh_counters_close(a);
    bh_counters_close(b);
    bh_counters_close(NULL);
}

static void
test_other_version(void **state)
{
    (void)state;
    struct bh_counters *counters;
    assert_int_equal(bh_counters_open(path, true, &counters, NULL), BH_OK);
    uint64_t first = counters->file_epoch;
    counters->version++;
    struct bh_counters *other;
    assert_int_equal(bh_counters_open(path, false, &other, NULL), BH_E_NOT_READY);
    assert_int_equal(bh_counters_open(path, true, &other, NULL), BH_OK);
    assert_true(other->file_epoch != first);
    assert_int_equal(counters->version, BH_COUNTERS_VERSION + 1); /* the old map is untouched */
    assert_true(bh_counters_replaced(counters, path));
    assert_false(bh_counters_replaced(other, path));
    assert_int_equal(unlink(path), 0);
    assert_true(bh_counters_replaced(other, path));
    bh_counters_close(counters);
    bh_counters_close(other);
}

static void
test_cut_file(void **state)
{
    (void)state;
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "short", 5), 5);
    close(fd);
    struct bh_counters *counters;
    assert_int_equal(bh_counters_open(path, false, &counters, NULL), BH_E_NOT_READY);
    assert_int_equal(bh_counters_open(path, true, &counters, NULL), BH_OK);
    bh_counters_close(counters);
}

/* Eight creators at once agree on one file, and no addition is lost. */
static void
test_many_creators(void **state)
{
    (void)state;
    pid_t pids[8];
    for (int i = 0; i < 8; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            struct bh_counters *counters;
            if (bh_counters_open(path, true, &counters, NULL) != BH_OK) {
                _exit(2);
            }
            for (int n = 0; n < 20000; n++) {
                bh_slot_add(bh_slot_claim(counters, 1 + n % 3), BH_METER_REQUESTS, 1);
            }
            _exit(0);
        }
    }
    for (int i = 0; i < 8; i++) {
        int status;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        assert_int_equal(status, 0);
    }
    struct bh_counters *counters;
    assert_int_equal(bh_counters_open(path, false, &counters, NULL), BH_OK);
    uint64_t sum = 0;
    for (int32_t no = 1; no <= 3; no++) {
        sum += atomic_load(&bh_slot_claim(counters, no)->meters[BH_METER_REQUESTS]);
    }
    assert_int_equal(sum, 8 * 20000);
    bh_counters_close(counters);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_create, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(test_other_version, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(test_cut_file, make_dir, drop_dir),
        cmocka_unit_test_setup_teardown(test_many_creators, make_dir, drop_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
