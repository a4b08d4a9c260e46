/* The token bucket of database time against a model that lets tokens in one nanosecond at a time.
 */
#include "data/budget.h"

#include <stdlib.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define TRACES 300
#define STEPS 60

struct model {
    int64_t level;
    uint64_t at_ns;
};

static void
model_refill(struct model *model, const struct bh_budget_rule *rule, uint64_t now_ns)
{
    for (; model->at_ns < now_ns; model->at_ns++) {
        model->level += rule->rate;
        if (model->level > rule->burst)
            model->level = rule->burst;
    }
}

static void
model_charge(struct model *model, const struct bh_budget_rule *rule, uint64_t used_ns)
{
    for (; used_ns > 0 && model->level > -rule->debt; used_ns--) {
        model->level -= BH_BUDGET_TOKENS_PER_NS;
        if (model->level < -rule->debt)
            model->level = -rule->debt;
    }
}

static uint64_t
model_wait_ns(struct model model, const struct bh_budget_rule *rule)
{
    uint64_t ns = 0;

    for (; model.level <= 0; ns++)
        model.level += rule->rate;
    return ns;
}

static int64_t
between(unsigned *seed, int64_t least, int64_t most)
{
    return least + rand_r(seed) % (most - least + 1);
}

static void
check_trace(unsigned seed)
{
    struct bh_budget_rule rule = {.rate = between(&seed, 1, 4000),
        .burst = between(&seed, 1, 2000000),
        .debt = between(&seed, 0, 3000) * BH_BUDGET_TOKENS_PER_NS};
    struct bh_budget budget = {.level = rule.burst, .at_ns = 1};
    struct model model = {.level = rule.burst, .at_ns = 1};
    uint64_t now_ns = 1;

    for (int i = 0; i < STEPS; i++) {
        uint64_t used_ns = (uint64_t)between(&seed, 0, 2000);

        now_ns += (uint64_t)between(&seed, 0, 3000);
        bh_budget_refill(&budget, &rule, now_ns);
        model_refill(&model, &rule, now_ns);
        assert_true(budget.level == model.level);
        bh_budget_charge(&budget, &rule, used_ns);
        model_charge(&model, &rule, used_ns);
        assert_true(budget.level == model.level);
        assert_true(bh_budget_wait_ns(&budget, &rule) == model_wait_ns(model, &rule));
    }
}

static void
is_the_model_exactly(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= TRACES; seed++)
        check_trace(seed);
}

/* Who always begins as soon as it may gets burst, rate and the last statement's debt, no more. */
static void
gives_no_more_than_its_rate(void **state)
{
    struct bh_budget_rule rule = {.rate = 250,
        .burst = 100 * BH_BUDGET_TOKENS_PER_MS,
        .debt = 60000 * BH_BUDGET_TOKENS_PER_MS};
    struct bh_budget budget = {.level = rule.burst, .at_ns = 1};
    uint64_t now_ns = 1;
    uint64_t used_ns = 0;
    unsigned seed = 7;

    (void)state;
    for (int i = 0; i < 10000; i++) {
        uint64_t cost_ns = (uint64_t)between(&seed, 1, 30000000);

        now_ns += bh_budget_wait_ns(&budget, &rule);
        bh_budget_refill(&budget, &rule, now_ns);
        assert_true(budget.level > 0);
        now_ns += cost_ns;
        used_ns += cost_ns;
        bh_budget_refill(&budget, &rule, now_ns);
        bh_budget_charge(&budget, &rule, cost_ns);
        assert_true(used_ns <= 100000000 + now_ns / 4 + 30000000);
    }
    assert_true(used_ns + 60000000 >= now_ns / 4);
}

static void
survives_extremes(void **state)
{
    struct bh_budget_rule rule = {.rate = 1000000,
        .burst = 3600000 * BH_BUDGET_TOKENS_PER_MS,
        .debt = 3600000 * BH_BUDGET_TOKENS_PER_MS};
    struct bh_budget budget = {.level = rule.burst, .at_ns = 1};

    (void)state;
    bh_budget_refill(&budget, &rule, UINT64_MAX);
    assert_true(budget.level == rule.burst);
    bh_budget_charge(&budget, &rule, UINT64_MAX);
    assert_true(budget.level == -rule.debt);
    bh_budget_refill(&budget, &rule, 5); /* an earlier time */
    assert_true(budget.level == -rule.debt);
    budget.at_ns = 0;
    bh_budget_refill(&budget, &rule, UINT64_C(1) << 62);
    assert_true(budget.level == rule.burst);
    rule.rate = 0;
    budget.level = -1;
    assert_true(bh_budget_wait_ns(&budget, &rule) == 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_the_model_exactly),
        cmocka_unit_test(gives_no_more_than_its_rate),
        cmocka_unit_test(survives_extremes),
    };
    return cmocka_run_group_tests_name("budget", tests, NULL, NULL);
}
