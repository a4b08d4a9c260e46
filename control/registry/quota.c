#include "control/registry/quota.h"

#include <stdlib.h>
#include <string.h>

#include "control/registry/change.h"
#include "core/quota.h"

#define SHARE 1000     /* of each edge, as records say it (publish.c) */
#define CLOCK_OFF_S 60 /* an edge's clock and ours */

/* One quota as it stands, and the budget row that is held. */
struct budget {
    int64_t amount;
    int64_t begins_s;
    int64_t ends_s;
    int64_t edges;   /* of the cell, heard of within a day */
    int64_t granted; /* to all sources */
    int64_t own;     /* to the asker; -1: it asks for the first time */
    int64_t aside;   /* start leases of edges that have not asked yet */
};

static const char quota_sql[] =
    "SELECT (l.value->>'quota')::bigint, coalesce(l.value->>'window', 'day'),"
    " floor(extract(epoch FROM clock_timestamp()))::bigint"
    " FROM tenant t JOIN tier r ON r.name = t.tier"
    " CROSS JOIN LATERAL jsonb_array_elements((r.edge || t.edge)->'quota_policies') l"
    " WHERE t.no = $1 AND t.cell = $2 AND t.state <> 'gone'"
    " AND l.value->>'name' = $3 AND l.value ? 'quota'";

/* The policy was checked when it was written. */
static enum bh_limit_window
window_of(const char *word)
{
    return strcmp(word, "hour") == 0    ? BH_WINDOW_HOUR
           : strcmp(word, "month") == 0 ? BH_WINDOW_MONTH
                                        : BH_WINDOW_DAY;
}

/* Does the window that begins there lie around ${now_s}, as well as two clocks can agree? */
static bool
is_now(enum bh_limit_window window, int64_t now_s, int64_t begins_s, int64_t *ret_ends_s)
{
    for (int64_t at = now_s - CLOCK_OFF_S; at <= now_s + CLOCK_OFF_S; at += CLOCK_OFF_S) {
        int64_t first;
        bh_quota_window(window, at, &first, ret_ends_s);
        if (first == begins_s)
            return true;
    }
    return false;
}

static enum bh_code
find_quota(struct bh_db *db, const struct bh_budget_asker *asker, const struct bh_budget_want *want,
    struct budget *budget, bool *ret_found, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err, quota_sql, bh_number(want->no).text, asker->cell, want->limit));
    *budget = (struct budget){.begins_s = want->begins_s};
    *ret_found = PQntuples(r) == 1 && is_now(window_of(PQgetvalue(r, 0, 1)), bh_db_int(r, 0, 2),
                                          want->begins_s, &budget->ends_s);
    if (*ret_found)
        budget->amount = bh_db_int(r, 0, 0);
    PQclear(r);
    return BH_OK;
}

#define KEY "no = $1 AND name = $2 AND window_start = to_timestamp($3::bigint)"

/* From here to the end of the transaction nobody else gets anything of it. */
static enum bh_code
hold(struct bh_db *db, const struct bh_budget_want *want, const struct budget *budget,
    struct bh_error *err)
{
    const struct bh_number no = bh_number(want->no);
    BH_TRY(bh_db_run(db, NULL, err,
        "INSERT INTO quota (no, name, window_start, ends_at)"
        " VALUES ($1, $2, to_timestamp($3::bigint), to_timestamp($4::bigint))"
        " ON CONFLICT DO NOTHING",
        no.text, want->limit, bh_number(budget->begins_s).text, bh_number(budget->ends_s).text));
    return bh_db_run(db, NULL, err, "SELECT FROM quota WHERE " KEY " FOR UPDATE", no.text,
        want->limit, bh_number(budget->begins_s).text);
}

static const char sums_sql[] =
    "WITH held AS (SELECT source, granted FROM quota_lease WHERE " KEY "),"
    " edges AS (SELECT id FROM agent WHERE cell = $4"
    "  AND (id = $5 OR seen_at > clock_timestamp() - interval '1 day'))"
    " SELECT coalesce((SELECT sum(granted) FROM held), 0),"
    " coalesce((SELECT granted FROM held WHERE source = $6), -1),"
    " greatest(1, (SELECT count(*) FROM edges)),"
    " (SELECT count(*) FROM edges e WHERE e.id <> $5"
    "  AND NOT EXISTS (SELECT FROM held h WHERE split_part(h.source, '/', 1) = e.id))";

static enum bh_code
read_sums(struct bh_db *db, const struct bh_budget_asker *asker, const struct bh_budget_want *want,
    struct budget *budget, struct bh_error *err)
{
    PGresult *r;
    int64_t start = (int64_t)bh_quota_start((uint64_t)budget->amount, SHARE);
    BH_TRY(bh_db_run(db, &r, err, sums_sql, bh_number(want->no).text, want->limit,
        bh_number(budget->begins_s).text, asker->cell, asker->agent, asker->source));
    budget->granted = bh_db_int(r, 0, 0);
    budget->own = bh_db_int(r, 0, 1);
    budget->edges = bh_db_int(r, 0, 2);
    budget->aside = bh_db_int(r, 0, 3) * start;
    PQclear(r);
    if (budget->own < 0) { /* what it took when the window began */
        budget->own = start;
        budget->granted += start;
    }
    return BH_OK;
}

/* What is nobody's; less than nothing where the quota was lowered. */
static int64_t
left_of(const struct budget *budget)
{
    int64_t left = budget->amount - budget->granted - budget->aside;
    return left > 0 ? left : 0;
}

/* How much more the asker gets now.  One edge alone need leave nothing for others. */
static int64_t
portion(const struct budget *budget, const struct bh_budget_want *want)
{
    int64_t left = left_of(budget);
    int64_t most = budget->edges > 1 ? left / (2 * budget->edges) : left;
    int64_t lacks = want->used > INT64_MAX - want->want ? INT64_MAX - budget->own
                                                        : want->used + want->want - budget->own;
    if (most == 0)
        most = left > 0 ? 1 : 0;
    return lacks <= 0 ? 0 : lacks < most ? lacks : most;
}

static const char lease_sql[] =
    "INSERT INTO quota_lease AS l (no, name, window_start, source, used, granted)"
    " VALUES ($1, $2, to_timestamp($3::bigint), $4, $5, $6)"
    " ON CONFLICT (no, name, window_start, source) DO UPDATE SET"
    "  used = greatest(l.used, excluded.used), granted = excluded.granted,"
    "  asked_at = clock_timestamp()";

static enum bh_code
answer(struct bh_db *db, const struct bh_budget_asker *asker, const struct bh_budget_want *want,
    struct bh_budget_lease *ret_lease, struct bh_error *err)
{
    struct budget budget;
    bool found;
    *ret_lease = (struct bh_budget_lease){.want = NULL};
    BH_TRY(find_quota(db, asker, want, &budget, &found, err));
    if (!found)
        return BH_OK;
    BH_TRY(hold(db, want, &budget, err));
    BH_TRY(read_sums(db, asker, want, &budget, err));
    int64_t more = portion(&budget, want);
    budget.own += more;
    budget.granted += more;
    *ret_lease = (struct bh_budget_lease){.want = want,
        .granted = budget.own,
        .elsewhere = budget.granted - budget.own + budget.aside,
        .left = left_of(&budget)};
    return bh_db_run(db, NULL, err, lease_sql, bh_number(want->no).text, want->limit,
        bh_number(budget.begins_s).text, asker->source, bh_number(want->used).text,
        bh_number(budget.own).text);
}

/* Budgets are always held in the same order, so that nobody waits for whom he keeps waiting. */
static int
compare_wants(const void *left, const void *right)
{
    const struct bh_budget_want *a = left;
    const struct bh_budget_want *b = right;
    int order = (a->no > b->no) - (a->no < b->no);
    if (order == 0)
        order = strcmp(a->limit, b->limit);
    return order != 0 ? order : (a->begins_s > b->begins_s) - (a->begins_s < b->begins_s);
}

enum bh_code
bh_budget_ask(struct bh_db *db, const struct bh_budget_asker *asker, struct bh_budget_want *wants,
    size_t count, struct bh_budget_lease *ret_leases, struct bh_error *err)
{
    qsort(wants, count, sizeof(*wants), compare_wants);
    BH_TRY(bh_db_begin(db, err));
    enum bh_code code = BH_OK;
    for (size_t i = 0; code == BH_OK && i < count; i++)
        code = answer(db, asker, &wants[i], &ret_leases[i], err);
    if (code == BH_OK)
        return bh_db_commit(db, err);
    bh_db_rollback(db);
    return code;
}

enum bh_code
bh_budget_prune(struct bh_db *db, int64_t *ret_pruned, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err,
        "WITH away AS (DELETE FROM quota WHERE ends_at < now() - interval '1 day' RETURNING no)"
        " SELECT count(*) FROM away"));
    *ret_pruned = bh_db_int(r, 0, 0);
    PQclear(r);
    return BH_OK;
}

enum bh_code
bh_budget_list(struct bh_db *db, struct bh_arena *arena, int32_t no,
    struct bh_budget_state **ret_states, size_t *ret_count, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT q.name, extract(epoch FROM q.window_start)::bigint, sum(l.used), sum(l.granted)"
        " FROM quota q JOIN quota_lease l USING (no, name, window_start)"
        " WHERE q.no = $1 AND q.ends_at > now() GROUP BY 1, 2 ORDER BY 1, 2",
        bh_number(no).text));
    int count = PQntuples(r);
    struct bh_budget_state *states = bh_arena_zalloc(arena, (size_t)(count + 1) * sizeof(*states));
    for (int i = 0; states && i < count; i++) {
        states[i] = (struct bh_budget_state){
            bh_db_text(r, i, 0, arena), bh_db_int(r, i, 1), bh_db_int(r, i, 2), bh_db_int(r, i, 3)};
        if (!states[i].limit)
            states = NULL;
    }
    PQclear(r);
    if (!states)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for quotas");
    *ret_states = states;
    *ret_count = (size_t)count;
    return BH_OK;
}
