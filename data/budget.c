#include "data/budget.h"

/* How long ${tokens} take to flow in, rounded up. */
static uint64_t
flow_ns(int64_t tokens, int64_t rate)
{
    return (uint64_t)((tokens + rate - 1) / rate);
}

void
bh_budget_refill(struct bh_budget *budget, const struct bh_budget_rule *rule, uint64_t now_ns)
{
    uint64_t elapsed;

    if (now_ns <= budget->at_ns || rule->rate <= 0)
        return;
    elapsed = now_ns - budget->at_ns;
    budget->at_ns = now_ns;
    if (budget->level >= rule->burst || elapsed >= flow_ns(rule->burst - budget->level, rule->rate))
        budget->level = rule->burst;
    else
        budget->level += (int64_t)elapsed * rule->rate;
}

void
bh_budget_charge(struct bh_budget *budget, const struct bh_budget_rule *rule, uint64_t used_ns)
{
    uint64_t room = (uint64_t)(budget->level + rule->debt) / BH_BUDGET_TOKENS_PER_NS;

    if (budget->level < -rule->debt)
        room = 0;
    if (used_ns > room)
        budget->level = -rule->debt;
    else
        budget->level -= (int64_t)used_ns * BH_BUDGET_TOKENS_PER_NS;
}

uint64_t
bh_budget_wait_ns(const struct bh_budget *budget, const struct bh_budget_rule *rule)
{
    if (rule->rate <= 0 || budget->level > 0)
        return 0;
    return flow_ns(1 - budget->level, rule->rate);
}
