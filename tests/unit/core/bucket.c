#include "tests/unit/core/test.h"

#include "core/bucket.h"

#define SECOND UINT64_C(1000000000)
#define START (1000 * SECOND)

/* The model: a leaky bucket, in integers; it knows nothing of arrival times. */
struct model {
    uint64_t step, burst, level, at;
};

static bool
model_take(struct model *m, uint64_t now)
{
    uint64_t leaked = now - m->at;
    m->level = m->level > leaked ? m->level - leaked : 0;
    m->at = now;
    if (m->level + m->step > m->burst * m->step)
        return false;
    m->level += m->step;
    return true;
}

static uint64_t
model_left(const struct model *m)
{
    uint64_t left = 0;
    while (m->level + (left + 1) * m->step <= m->burst * m->step)
        left++;
    return left;
}

static void
a_fresh_bucket_lets_exactly_the_burst_pass_at_once(void **state)
{
    (void)state;
    uint64_t tat = 0;
    for (uint32_t i = 0; i < 200; i++) {
        struct bh_bucket_answer answer = bh_bucket_take(tat, 100, 200, START);
        assert_true(answer.allowed);
        assert_int_equal(answer.left, 199 - i);
        assert_int_equal(answer.next_s, 1);
        tat = answer.tat_ns;
    }
    struct bh_bucket_answer refused = bh_bucket_take(tat, 100, 200, START);
    assert_false(refused.allowed);
    assert_int_equal(refused.left, 0);
    assert_int_equal(refused.tat_ns, tat);
    assert_int_equal(refused.next_s, 1);
    assert_true(bh_bucket_take(tat, 100, 200, START + SECOND / 100).allowed);
    assert_false(bh_bucket_take(tat, 100, 200, START + SECOND / 100 - 1).allowed);
}

static void
the_time_to_the_next_request_is_rounded_up(void **state)
{
    (void)state;
    struct bh_bucket_answer first = bh_bucket_take(0, 1, 1, START);
    assert_true(first.allowed);
    assert_int_equal(first.left, 0);
    assert_int_equal(first.next_s, 1);
    assert_int_equal(bh_bucket_take(first.tat_ns, 1, 1, START + 1).next_s, 1);
    assert_int_equal(bh_bucket_take(first.tat_ns, 1, 1, START + SECOND - 1).next_s, 1);
    assert_true(bh_bucket_take(first.tat_ns, 1, 1, START + SECOND).allowed);
}

static void
random_arrivals_are_judged_as_by_the_model(void **state)
{
    (void)state;
    uint64_t seed = 20261121, allowed = 0, refused = 0;
    for (int run = 0; run < 400; run++) {
        uint32_t rate = (uint32_t)(1 + next_random(&seed) % (run % 2 ? 20 : 1000000));
        uint32_t burst = (uint32_t)(1 + next_random(&seed) % 30);
        struct model model = {(SECOND + rate - 1) / rate, burst, 0, 0};
        uint64_t tat = 0, now = START;
        for (int i = 0; i < 300; i++) {
            now += next_random(&seed) %
                   (i % 50 == 0 ? 40 * model.step : model.step * (unsigned)(run % 3 + 1) / 2 + 1);
            struct bh_bucket_answer answer = bh_bucket_take(tat, rate, burst, now);
            assert_int_equal(answer.allowed, model_take(&model, now));
            assert_int_equal(answer.left, model_left(&model));
            if (!answer.allowed)
                assert_int_equal(answer.tat_ns, tat);
            tat = answer.tat_ns;
            allowed += answer.allowed;
            refused += !answer.allowed;
        }
    }
    assert_in_range(allowed, 10000, UINT64_MAX);
    assert_in_range(refused, 10000, UINT64_MAX);
}

/* left grows by one after next_s seconds, and not yet a second before (next_s = 1: not at once). */
static void
the_answer_says_when_one_more_will_pass(void **state)
{
    (void)state;
    uint64_t seed = 7;
    for (int run = 0; run < 20000; run++) {
        uint32_t rate = (uint32_t)(1 + next_random(&seed) % 5);
        uint32_t burst = (uint32_t)(2 + next_random(&seed) % 9);
        uint64_t tat = START + next_random(&seed) % (burst * SECOND / rate);
        struct bh_bucket_answer answer = bh_bucket_take(tat, rate, burst, START);
        uint64_t wait = answer.next_s * SECOND;
        struct bh_bucket_answer then = bh_bucket_take(answer.tat_ns, rate, burst, START + wait);
        struct bh_bucket_answer before =
            bh_bucket_take(answer.tat_ns, rate, burst, START + wait - SECOND);
        assert_int_not_equal(answer.next_s, 0);
        assert_true(then.allowed);
        assert_in_range(then.left, answer.left, burst);
        assert_true(answer.left == 0 ? !before.allowed : before.left == answer.left - 1);
    }
}

static void
no_more_than_burst_and_rate_pass_in_any_time(void **state)
{
    (void)state;
    static const uint32_t rates[] = {1, 3, 7, 100, 999, 333333, 999999, 1000000};
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        uint32_t rate = rates[i], burst = 5;
        uint64_t tat = 0, passed = 0, span = 20000 * SECOND / rate, step = span / 100000 + 1;
        for (uint64_t at = 0; at <= span; at += step) {
            struct bh_bucket_answer answer = bh_bucket_take(tat, rate, burst, START + at);
            passed += answer.allowed;
            tat = answer.tat_ns;
            assert_true(passed <= burst + at * rate / SECOND);
        }
        assert_in_range(passed, 15000, 20005);
    }
}

static void
a_state_far_in_the_future_lets_one_pass_and_is_true_again(void **state)
{
    (void)state;
    static const uint64_t states[] = {START + 2 * SECOND + 1, START + 1000000 * SECOND, UINT64_MAX};
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        struct bh_bucket_answer answer = bh_bucket_take(states[i], 10, 20, START);
        assert_true(answer.allowed);
        assert_int_equal(answer.left, 0);
        assert_int_equal(answer.tat_ns, START + 2 * SECOND);
        assert_false(bh_bucket_take(answer.tat_ns, 10, 20, START).allowed);
        assert_true(bh_bucket_take(answer.tat_ns, 10, 20, START + SECOND / 10).allowed);
    }
    struct bh_bucket_answer spent = bh_bucket_take(START + 2 * SECOND, 10, 20, START);
    assert_false(spent.allowed);
    assert_int_equal(spent.tat_ns, START + 2 * SECOND);
}

static void
a_lowered_burst_takes_hold_at_once(void **state)
{
    (void)state;
    uint64_t tat = 0;
    for (int i = 0; i < 200; i++)
        tat = bh_bucket_take(tat, 100, 200, START).tat_ns;
    int passed = 0;
    for (int i = 0; i < 50; i++) {
        struct bh_bucket_answer answer = bh_bucket_take(tat, 100, 10, START);
        passed += answer.allowed;
        tat = answer.tat_ns;
    }
    assert_int_equal(passed, 1);
}

static void
limits_of_zero_let_nothing_pass(void **state)
{
    (void)state;
    assert_false(bh_bucket_take(0, 0, 10, START).allowed);
    assert_false(bh_bucket_take(0, 10, 0, START).allowed);
    assert_true(bh_bucket_take(0, 1, 1, START).allowed);
    assert_int_equal(bh_bucket_take(0, 0, 10, START).next_s, 1);
}

static void
the_largest_limits_do_not_overflow(void **state)
{
    (void)state;
    struct bh_bucket_answer slow = bh_bucket_take(0, 1, 1000000, START);
    assert_true(slow.allowed);
    assert_int_equal(slow.left, 999999);
    struct bh_bucket_answer fast = bh_bucket_take(0, 1000000, 1000000, START);
    assert_true(fast.allowed);
    assert_int_equal(fast.left, 999999);
    assert_int_equal(fast.next_s, 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fresh_bucket_lets_exactly_the_burst_pass_at_once),
        cmocka_unit_test(the_time_to_the_next_request_is_rounded_up),
        cmocka_unit_test(random_arrivals_are_judged_as_by_the_model),
        cmocka_unit_test(the_answer_says_when_one_more_will_pass),
        cmocka_unit_test(no_more_than_burst_and_rate_pass_in_any_time),
        cmocka_unit_test(a_state_far_in_the_future_lets_one_pass_and_is_true_again),
        cmocka_unit_test(a_lowered_burst_takes_hold_at_once),
        cmocka_unit_test(limits_of_zero_let_nothing_pass),
        cmocka_unit_test(the_largest_limits_do_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
