#include "tests/unit/core/test.h"

#include <pthread.h>

#include "core/meter.h"

#define THREADS 4
#define ROUNDS 20000

static struct bh_counters *
make_counters(uint32_t capacity)
{
    size_t size = sizeof(struct bh_counters) + capacity * sizeof(struct bh_slot);
    struct bh_counters *counters = aligned_alloc(256, (size + 255) & ~(size_t)255);
    assert_non_null(counters);
    memset((void *)counters, 0, size);
    counters->capacity = capacity;
    return counters;
}

static void
a_tenant_keeps_its_slot_and_shares_it_with_nobody(void **state)
{
    (void)state;
    struct bh_counters *counters = make_counters(100);
    struct bh_slot *slots[101];
    for (int32_t no = 1; no <= 100; no++) {
        slots[no] = bh_slot_claim(counters, no * 7);
        assert_non_null(slots[no]);
        assert_int_equal(slots[no]->no, no * 7);
    }
    for (int32_t no = 1; no <= 100; no++) {
        assert_ptr_equal(bh_slot_claim(counters, no * 7), slots[no]);
        for (int32_t other = 1; other < no; other++)
            assert_ptr_not_equal(slots[no], slots[other]);
    }
    free(counters);
}

static void
a_full_file_and_an_impossible_number_give_no_slot(void **state)
{
    (void)state;
    struct bh_counters *counters = make_counters(3);
    assert_null(bh_slot_claim(counters, 0));
    assert_null(bh_slot_claim(counters, -1));
    assert_null(bh_slot_claim(counters, INT32_MIN));
    for (int32_t no = 1; no <= 3; no++)
        assert_non_null(bh_slot_claim(counters, no));
    assert_null(bh_slot_claim(counters, 4));
    assert_null(bh_slot_claim(counters, INT32_MAX));
    assert_non_null(bh_slot_claim(counters, 2));
    counters->capacity = 0;
    assert_null(bh_slot_claim(counters, 2));
    free(counters);
}

static void
neighbouring_numbers_have_neighbouring_slots(void **state)
{
    (void)state;
    struct bh_counters *counters = make_counters(16);
    assert_ptr_equal(bh_slot_claim(counters, 1), &counters->slots[1]);
    assert_ptr_equal(bh_slot_claim(counters, 17), &counters->slots[2]);
    assert_ptr_equal(bh_slot_claim(counters, 2), &counters->slots[3]);
    assert_ptr_equal(bh_slot_claim(counters, 15), &counters->slots[15]);
    assert_ptr_equal(bh_slot_claim(counters, 31), &counters->slots[0]);
    free(counters);
}

static void
meters_have_names_and_are_found_by_them(void **state)
{
    (void)state;
    for (unsigned i = 0; i < BH_METER_COUNT; i++)
        assert_int_equal(bh_meter_find(bh_meter_slug((enum bh_meter)i)), i);
    assert_int_equal(bh_meter_find("bytes_out"), BH_METER_BYTES_OUT);
    assert_int_equal(bh_meter_find("nothing"), BH_METER_COUNT);
    assert_string_equal(bh_meter_slug(BH_METER_COUNT), "");
    assert_int_equal(bh_meter_find("db_errors"), BH_METER_DB_ERRORS);
    assert_string_equal(bh_meter_unit(BH_METER_DB_WAL_BYTES), "bytes");
    assert_string_equal(bh_meter_unit(BH_METER_COUNT), "");
}

/* The counters file is mapped by programs of several versions: its layout is
 * doc/contract/counters.md. */
static void
meters_of_the_database_have_no_place_in_a_slot(void **state)
{
    (void)state;
    struct bh_slot slot = {0};
    assert_int_equal(BH_METER_EDGE_COUNT, 12);
    assert_int_equal(BH_METER_DB_STATEMENTS, 12);
    assert_int_equal(BH_METER_COUNT, 21);
    assert_int_equal(BH_METER_BYTES_OUT, 8);
    assert_int_equal(offsetof(struct bh_slot, meters), 16);
    assert_int_equal(offsetof(struct bh_slot, latency), 16 + 12 * 8);
    assert_int_equal(offsetof(struct bh_slot, room), 16 + 12 * 8 + 16 * 8);
    for (unsigned meter = BH_METER_EDGE_COUNT; meter <= BH_METER_COUNT; meter++)
        bh_slot_add(&slot, (enum bh_meter)meter, 1);
    for (size_t i = 0; i < sizeof(slot.room); i++)
        assert_int_equal(slot.room[i], 0);
    for (size_t i = 0; i < BH_LATENCY_BUCKETS; i++)
        assert_int_equal(slot.latency[i], 0);
}

static void
a_request_is_in_the_first_bucket_whose_bound_it_does_not_exceed(void **state)
{
    (void)state;
    assert_int_equal(bh_latency_bucket(0), 0);
    for (unsigned i = 0; i < BH_LATENCY_BUCKETS - 1; i++) {
        assert_int_equal(bh_latency_bound_us(i), 512u << i);
        assert_int_equal(bh_latency_bucket(512u << i), i);
        assert_int_equal(bh_latency_bucket((512u << i) + 1), i + 1);
    }
    assert_true(bh_latency_bound_us(BH_LATENCY_BUCKETS - 1) == UINT64_MAX);
    assert_int_equal(bh_latency_bucket(UINT64_MAX), BH_LATENCY_BUCKETS - 1);
    struct bh_slot slot = {0};
    bh_slot_took(&slot, 700);
    bh_slot_took(&slot, 900);
    bh_slot_took(&slot, 60 * 1000000);
    assert_int_equal(slot.latency[1], 2);
    assert_int_equal(slot.latency[BH_LATENCY_BUCKETS - 1], 1);
    assert_int_equal(slot.meters[BH_METER_LATENCY_US], 60001600);
}

struct job {
    struct bh_counters *counters;
    unsigned start;
};

/* Claims 32 tenants in a file of 64 again and again, and counts in each. */
static void *
count_on(void *arg)
{
    struct job *job = arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        int32_t no = (int32_t)(1 + 64 * ((i + job->start) % 32)); /* all begin at the same slot */
        struct bh_slot *slot = bh_slot_claim(job->counters, no);
        if (slot == NULL)
            return slot;
        bh_slot_add(slot, BH_METER_REQUESTS, 1);
        bh_slot_add(slot, BH_METER_BYTES_IN, 3);
    }
    return job;
}

static void
threads_that_race_for_slots_lose_no_count(void **state)
{
    (void)state;
    struct bh_counters *counters = make_counters(64);
    pthread_t threads[THREADS];
    struct job jobs[THREADS];
    uint64_t requests = 0, bytes = 0;
    unsigned used = 0;
    for (unsigned i = 0; i < THREADS; i++) {
        jobs[i] = (struct job){counters, i * 5};
        assert_int_equal(pthread_create(&threads[i], NULL, count_on, &jobs[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        void *result;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_ptr_equal(result, &jobs[i]);
    }
    for (unsigned i = 0; i < 64; i++) {
        used += counters->slots[i].no != 0;
        requests += counters->slots[i].meters[BH_METER_REQUESTS];
        bytes += counters->slots[i].meters[BH_METER_BYTES_IN];
        if (counters->slots[i].no != 0)
            assert_int_equal(counters->slots[i].meters[BH_METER_REQUESTS], THREADS * ROUNDS / 32);
    }
    assert_int_equal(used, 32);
    assert_int_equal(requests, THREADS * ROUNDS);
    assert_int_equal(bytes, 3 * THREADS * ROUNDS);
    free(counters);
}

static void
a_meter_that_does_not_exist_counts_nowhere(void **state)
{
    (void)state;
    struct bh_counters *counters = make_counters(2);
    struct bh_slot *slot = bh_slot_claim(counters, 1), before;
    memcpy((void *)&before, (const void *)slot, sizeof(before));
    bh_slot_add(slot, BH_METER_COUNT, 1);
    assert_memory_equal((const void *)slot, (const void *)&before, sizeof(before));
    bh_slot_add(slot, BH_METER_BYTES_OUT, 1);
    assert_memory_not_equal((const void *)slot, (const void *)&before, sizeof(before));
    free(counters);
}

static void
a_slot_is_found_only_where_it_was_claimed(void **state)
{
    (void)state;
    struct bh_counters *counters = make_counters(4);
    assert_null(bh_slot_find(counters, 1));
    assert_null(bh_slot_find(counters, 0));
    struct bh_slot *first = bh_slot_claim(counters, 1), *behind = bh_slot_claim(counters, 5);
    assert_true(first != behind);
    assert_ptr_equal(bh_slot_find(counters, 1), first);
    assert_ptr_equal(bh_slot_find(counters, 5), behind);
    assert_null(bh_slot_find(counters, 9));
    assert_non_null(bh_slot_claim(counters, 9));
    assert_non_null(bh_slot_claim(counters, 2));
    assert_null(bh_slot_find(counters, 13)); /* full of others */
    free(counters);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tenant_keeps_its_slot_and_shares_it_with_nobody),
        cmocka_unit_test(a_full_file_and_an_impossible_number_give_no_slot),
        cmocka_unit_test(neighbouring_numbers_have_neighbouring_slots),
        cmocka_unit_test(meters_have_names_and_are_found_by_them),
        cmocka_unit_test(meters_of_the_database_have_no_place_in_a_slot),
        cmocka_unit_test(a_request_is_in_the_first_bucket_whose_bound_it_does_not_exceed),
        cmocka_unit_test(threads_that_race_for_slots_lose_no_count),
        cmocka_unit_test(a_meter_that_does_not_exist_counts_nowhere),
        cmocka_unit_test(a_slot_is_found_only_where_it_was_claimed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
