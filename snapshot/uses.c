/* One limit as one request meets it: rates, quotas, concurrent requests. */
#include <string.h>

#include "core/bucket.h"
#include "snapshot/limitfile.h"

#define SECOND_NS UINT64_C(1000000000)
#define KEPT_S 7200        /* after its window: the wall clock may step back */
#define CROWD_NS SECOND_NS /* an empty crowd keeps its cell for so long */
#define LOST_WAIT_S 30     /* between two attempts while the control plane is away */

static uint32_t
scale(int64_t value, uint32_t share)
{
    uint64_t part = (uint64_t)value * share / 1000;
    return part < 1 ? 1 : (uint32_t)part;
}

static struct bh_cell_key
make_key(const struct bh_limits *limits, uint32_t no, const struct bh_limit *limit, const void *who,
    size_t who_len)
{
    struct bh_cell_key key = {.no = no};
    struct bh_sip sip;
    uint8_t head[8] = {(uint8_t)no, (uint8_t)(no >> 8), (uint8_t)(no >> 16), (uint8_t)(no >> 24),
        (uint8_t)limit->kind, (uint8_t)limit->per, (uint8_t)limit->unit, (uint8_t)limit->name.len};
    bh_sip_begin(&sip, limits->header->key);
    bh_sip_add(&sip, head, sizeof(head));
    bh_sip_add(&sip, limit->name.data, limit->name.len);
    bh_sip_add(&sip, who, who_len);
    bh_sip_end(&sip, key.word);
    key.word[0] += key.word[0] == 0; /* 0 is a cell that was never used */
    return key;
}

/* ---- rate ---- */

static void
tell_rate(struct bh_limit_use *use, const struct bh_bucket_answer *answer)
{
    use->allowed = answer->allowed;
    use->left = answer->left;
    use->t_s = answer->next_s;
    use->wait_s = answer->next_s > 1 ? answer->next_s : 1;
}

static void
look_rate(struct bh_limits *limits, const struct bh_limit_moment *moment, struct bh_limit_use *use)
{
    const struct bh_cells *cells =
        use->limit->per == BH_PER_TENANT ? &limits->tenants : &limits->clients;
    struct bh_cell *cell = bh_cells_find(cells, &use->key);
    uint64_t tat = cell == NULL ? 0 : atomic_load(&cell->state);
    if (cell != NULL && !bh_cell_holds(cell, &use->key)) {
        tat = 0;
    }
    struct bh_bucket_answer answer =
        bh_bucket_take(tat & ~BH_CELL_CLAIMED, use->rate, (uint32_t)use->amount, moment->now_ns);
    tell_rate(use, &answer);
    if (answer.allowed && ++use->left >= use->amount) {
        use->t_s = 0;
    }
}

/* Clients for whom their tenant has no place left share one cell. */
static struct bh_cell *
rate_cell(struct bh_limits *limits, const struct bh_limit_moment *moment, struct bh_limit_use *use)
{
    if (use->limit->per != BH_PER_TENANT && !use->shared) {
        struct bh_cell *cell = bh_cells_find(&limits->clients, &use->key);
        if (cell == NULL) {
            cell = bh_cells_claim(&limits->clients, &use->key, moment->now_ns, NULL, NULL);
        }
        if (cell != NULL) {
            return cell;
        }
        use->shared = true;
        use->key = make_key(limits, moment->no, use->limit, NULL, 0);
    }
    struct bh_cell *cell = bh_cells_find(&limits->tenants, &use->key);
    return cell != NULL ? cell
                        : bh_cells_claim(&limits->tenants, &use->key, moment->now_ns, NULL, NULL);
}

static bool
refuse(struct bh_limit_use *use, uint64_t wait_s)
{
    use->allowed = false;
    use->left = 0;
    use->wait_s = wait_s;
    return false;
}

static bool
take_rate(struct bh_limits *limits, const struct bh_limit_moment *moment, struct bh_limit_use *use)
{
    for (;;) {
        struct bh_cell *cell = rate_cell(limits, moment, use);
        if (cell == NULL) {
            return refuse(use, 1);
        }
        uint64_t old = atomic_load(&cell->state);
        if ((old & BH_CELL_CLAIMED) != 0 || !bh_cell_holds(cell, &use->key)) {
            continue; /* it was free and somebody took it */
        }
        uint64_t now_ns = moment->clock == NULL ? moment->now_ns : moment->clock();
        struct bh_bucket_answer answer =
            bh_bucket_take(old, use->rate, (uint32_t)use->amount, now_ns);
        if (!answer.allowed || atomic_compare_exchange_strong(&cell->state, &old, answer.tat_ns)) {
            tell_rate(use, &answer);
            use->cell = cell;
            use->taken_ns = now_ns;
            return answer.allowed;
        }
    }
}

/*
 * Less the time that it was held: others were refused meanwhile as if it were
 * used, but a bucket that was empty would not have begun to refill.
 */
static void
give_rate(struct bh_limit_use *use, uint64_t now_ns)
{
    uint64_t step = (SECOND_NS + use->rate - 1) / use->rate;
    uint64_t held = now_ns > use->taken_ns ? now_ns - use->taken_ns : 0;
    uint64_t old = atomic_load(&use->cell->state);
    while (held < step && bh_cell_holds(use->cell, &use->key) && (old & BH_CELL_CLAIMED) == 0 &&
           !atomic_compare_exchange_weak(&use->cell->state, &old, old - (step - held))) {
    }
}

/* ---- quota ---- */

static struct bh_quota *
quota_of(struct bh_cell *cell)
{
    return (struct bh_quota *)(void *)cell;
}

struct fresh {
    const struct bh_limit_moment *moment;
    const struct bh_limit_use *use;
};

static uint64_t
begin_quota(struct bh_cell *cell, const void *arg)
{
    const struct fresh *fresh = arg;
    const struct bh_limit_use *use = fresh->use;
    struct bh_quota *quota = quota_of(cell);
    atomic_store(&quota->used, 0);
    atomic_store(&quota->leased, bh_quota_start(use->amount, fresh->moment->share));
    atomic_store(&quota->elsewhere, 0);
    atomic_store(&quota->amount, use->amount);
    quota->begins_s = use->begins_s;
    quota->ends_s = use->ends_s;
    quota->window = (uint32_t)use->limit->window;
    quota->unit = (uint32_t)use->limit->unit;
    memset(quota->name, 0, sizeof(quota->name));
    struct bh_str name = use->limit->name;
    memcpy(quota->name, name.data, name.len < sizeof(quota->name) ? name.len : sizeof(quota->name));
    return fresh->moment->now_ns +
           (uint64_t)(use->ends_s - fresh->moment->wall_s + KEPT_S) * SECOND_NS;
}

/* What a quota's cell says, or would say if it were there. */
struct quota_state {
    uint64_t leased;
    uint64_t elsewhere;
    uint64_t bound; /* used may go so far */
};

static struct quota_state
read_quota(struct bh_limits *limits, const struct bh_limit_moment *moment,
    const struct bh_limit_use *use, struct bh_quota *quota)
{
    struct quota_state state = {.leased = bh_quota_start(use->amount, moment->share)};
    if (quota != NULL) {
        state.leased = atomic_load(&quota->leased);
        state.elsewhere = atomic_load(&quota->elsewhere);
    }
    uint64_t rest = use->amount > state.elsewhere ? use->amount - state.elsewhere : 0;
    bool alone = use->limit->continue_when_lost && bh_limits_lost(limits, moment->now_ns);
    state.bound = alone || state.leased > use->amount ? use->amount : state.leased;
    if (alone) {
        state.bound = rest > state.leased ? rest : state.leased;
        state.bound = state.bound < use->amount ? state.bound : use->amount;
    }
    return state;
}

static bool
tell_quota(struct bh_limits *limits, const struct bh_limit_moment *moment, struct bh_limit_use *use,
    const struct quota_state *state, uint64_t used)
{
    uint64_t gone = used + state->elsewhere;
    use->t_s = (uint64_t)(use->ends_s - moment->wall_s);
    use->left = use->amount > gone ? use->amount - gone : 0;
    use->allowed = used < state->bound;
    if (use->allowed) {
        return true;
    }
    bool more = state->leased + state->elsewhere < use->amount;
    uint64_t soon = bh_limits_lost(limits, moment->now_ns) ? LOST_WAIT_S : 1;
    if (more && soon < use->t_s) {
        use->t_s = soon;
    }
    return refuse(use, use->t_s > 1 ? use->t_s : 1);
}

static void
look_quota(struct bh_limits *limits, const struct bh_limit_moment *moment, struct bh_limit_use *use)
{
    struct bh_cell *cell = bh_cells_find(&limits->quotas, &use->key);
    struct bh_quota *quota = cell == NULL ? NULL : quota_of(cell);
    struct quota_state state = read_quota(limits, moment, use, quota);
    uint64_t used = quota == NULL ? 0 : atomic_load(&quota->used);
    if (!tell_quota(limits, moment, use, &state, used) && quota != NULL) {
        bh_limits_touch(limits, quota); /* who leases should see it */
    }
}

static bool
take_quota(struct bh_limits *limits, const struct bh_limit_moment *moment, struct bh_limit_use *use)
{
    struct fresh fresh = {moment, use};
    struct bh_cell *cell = bh_cells_find(&limits->quotas, &use->key);
    if (cell == NULL) {
        cell = bh_cells_claim(&limits->quotas, &use->key, moment->now_ns, begin_quota, &fresh);
    }
    if (cell == NULL) {
        return refuse(use, 1);
    }
    struct bh_quota *quota = quota_of(cell);
    if (atomic_load(&quota->amount) != use->amount) {
        atomic_store(&quota->amount, use->amount);
    }
    struct quota_state state = read_quota(limits, moment, use, quota);
    uint64_t used = atomic_load(&quota->used);
    do {
        if (!tell_quota(limits, moment, use, &state, used)) {
            bh_limits_touch(limits, quota);
            return false;
        }
    } while (!atomic_compare_exchange_weak(&quota->used, &used, used + use->units));
    bh_limits_touch(limits, quota);
    use->left = use->left > use->units ? use->left - use->units : 0;
    use->cell = cell;
    return true;
}

/*
 * A request may run for longer than its window's cell is kept: it is another's then.  Never below
 * nothing, should the file be used in a way that we did not think of.
 */
static void
change_used(const struct bh_limit_use *use, uint64_t from, uint64_t to)
{
    struct bh_quota *quota = quota_of(use->cell);
    if (!bh_cell_holds(&quota->cell, &use->key)) {
        return;
    }
    uint64_t old = atomic_load(&quota->used);
    uint64_t fresh;
    do {
        fresh = old + to > from ? old + to - from : 0;
    } while (!atomic_compare_exchange_weak(&quota->used, &old, fresh));
}

/* ---- concurrent ---- */

static void
tell_crowd(struct bh_limit_use *use, uint64_t running)
{
    use->allowed = running <= use->amount;
    use->left = use->amount > running ? use->amount - running : 0;
    use->t_s = 0;
    use->wait_s = 1;
}

static void
look_crowd(struct bh_limits *limits, const struct bh_limit_moment *moment, struct bh_limit_use *use)
{
    (void)moment;
    struct bh_cell *cell = bh_cells_find(&limits->crowds, &use->key);
    uint32_t sum =
        cell == NULL ? 0 : bh_columns_sum(&limits->columns, bh_limits_crowd(limits, cell));
    tell_crowd(use, (uint64_t)sum + 1);
    use->left += use->allowed;
}

static struct bh_cell *
crowd_cell(struct bh_limits *limits, const struct bh_limit_moment *moment, struct bh_limit_use *use)
{
    for (;;) {
        struct bh_cell *cell = bh_cells_find(&limits->crowds, &use->key);
        if (cell == NULL) {
            cell = bh_cells_claim(&limits->crowds, &use->key, moment->now_ns, NULL, NULL);
        }
        if (cell != NULL || use->shared || use->limit->per == BH_PER_TENANT) {
            return cell;
        }
        use->shared = true;
        use->key = make_key(limits, moment->no, use->limit, NULL, 0);
    }
}

/* So that it is not claimed between two requests; once in a while is enough. */
static void
keep_crowd(struct bh_cell *cell, uint64_t now_ns)
{
    uint64_t old = atomic_load(&cell->state);
    if ((old & BH_CELL_CLAIMED) == 0 && old < now_ns + CROWD_NS / 2) {
        (void)atomic_compare_exchange_strong(&cell->state, &old, now_ns + CROWD_NS);
    }
}

static bool
take_crowd(struct bh_limits *limits, const struct bh_limit_moment *moment, struct bh_limit_use *use)
{
    for (;;) {
        struct bh_cell *cell = crowd_cell(limits, moment, use);
        uint32_t index = cell == NULL ? 0 : bh_limits_crowd(limits, cell);
        _Atomic uint32_t *count = cell == NULL ? NULL : bh_columns_mine(&limits->columns, index);
        if (count == NULL) {
            return refuse(use, 1);
        }
        atomic_fetch_add(count, 1);
        if (!bh_cell_holds(cell, &use->key)) { /* claimed just before we counted */
            atomic_fetch_sub(count, 1);
            continue;
        }
        tell_crowd(use, bh_columns_sum(&limits->columns, index));
        if (!use->allowed) {
            atomic_fetch_sub(count, 1);
            return false;
        }
        keep_crowd(cell, moment->now_ns);
        use->count = count;
        return true;
    }
}

/* ---- all kinds ---- */

static const struct kind {
    void (*look)(
        struct bh_limits *limits, const struct bh_limit_moment *moment, struct bh_limit_use *use);
    bool (*take)(
        struct bh_limits *limits, const struct bh_limit_moment *moment, struct bh_limit_use *use);
} kinds[] = {
    [BH_LIMIT_RATE] = {look_rate, take_rate},
    [BH_LIMIT_QUOTA] = {look_quota, take_quota},
    [BH_LIMIT_CONCURRENT] = {look_crowd, take_crowd},
};

static void
use_rate(const struct bh_limit_moment *moment, struct bh_limit_use *use)
{
    use->rate = scale(use->limit->rate, moment->share);
    use->amount = (uint64_t)use->limit->amount;
    use->q = use->amount;
    use->w_s = (use->amount + use->rate - 1) / use->rate;
}

static void
use_quota(const struct bh_limit_moment *moment, struct bh_limit_use *use)
{
    use->amount = (uint64_t)use->limit->amount;
    bh_quota_window(use->limit->window, moment->wall_s, &use->begins_s, &use->ends_s);
    use->q = use->amount;
    use->w_s = (uint64_t)(use->ends_s - use->begins_s);
}

void
bh_limit_use(struct bh_limits *limits, const struct bh_limit *limit,
    const struct bh_limit_moment *moment, struct bh_str who, uint64_t units,
    struct bh_limit_use *ret_use)
{
    *ret_use = (struct bh_limit_use){.limit = limit, .units = units};
    if (limit->kind == BH_LIMIT_QUOTA) {
        use_quota(moment, ret_use);
        ret_use->key =
            make_key(limits, moment->no, limit, &ret_use->begins_s, sizeof(ret_use->begins_s));
        return;
    }
    if (limit->kind == BH_LIMIT_RATE) {
        use_rate(moment, ret_use);
    } else {
        ret_use->amount = scale(limit->amount, moment->share);
        ret_use->q = ret_use->amount;
    }
    ret_use->key =
        make_key(limits, moment->no, limit, who.data, limit->per == BH_PER_TENANT ? 0 : who.len);
}

void
bh_limit_look(
    struct bh_limits *limits, const struct bh_limit_moment *moment, struct bh_limit_use *use)
{
    kinds[use->limit->kind].look(limits, moment, use);
}

bool
bh_limit_take(
    struct bh_limits *limits, const struct bh_limit_moment *moment, struct bh_limit_use *use)
{
    return kinds[use->limit->kind].take(limits, moment, use);
}

static void
stop_running(struct bh_limit_use *use)
{
    if (use->count != NULL) {
        atomic_fetch_sub(use->count, 1);
        use->count = NULL;
    }
}

void
bh_limit_give(struct bh_limit_use *use, uint64_t now_ns)
{
    stop_running(use);
    if (use->cell != NULL && use->limit->kind == BH_LIMIT_RATE) {
        give_rate(use, now_ns);
    } else if (use->cell != NULL) {
        change_used(use, use->units, 0);
    }
    use->cell = NULL;
}

void
bh_limit_settle(struct bh_limit_use *use, uint64_t units)
{
    stop_running(use);
    if (use->cell != NULL && use->limit->kind == BH_LIMIT_QUOTA && units != use->units) {
        change_used(use, use->units, units);
        use->units = units;
    }
}
