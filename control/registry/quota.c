#include "control/registry/quota.h"

#include <stdlib.h>
#include <string.h>

#include "control/registry/change.h"
#include "core/arena.h"
#include "core/buf.h"
#include "core/quota.h"

#define SHARE 1000     /* of each edge, as records say it (publish.c) */
#define ROW_MAX 512    /* bytes of one want as a row */
#define CLOCK_OFF_S 60 /* an edge's clock and ours */

/* One quota as it stands while it is held. */
struct budget {
    bool found; /* it is one, of now, and not asked for twice */
    int64_t amount;
    int64_t ends_s;
    int64_t edges;   /* of the cell, heard of within a day */
    int64_t granted; /* to all sources */
    int64_t own;     /* to the asker */
    int64_t aside;   /* start leases of edges that have not asked yet */
};

/* One post under way: ${budgets} go with ${wants}. */
struct ask {
    struct bh_db *db;
    const struct bh_budget_asker *asker;
    struct bh_budget_want *wants;
    struct budget *budgets;
    size_t count;
    struct bh_chunks memory;
};

/* All wants (once there are budgets: those that are found) as rows of one parameter. */
#define ROWS                                                                                       \
    "jsonb_to_recordset($1::jsonb) AS w (i int, no int, name text, start bigint, ends bigint,"     \
    " used bigint, granted bigint)"

static enum bh_code
write_rows(struct ask *ask, bool found_only, const char **ret_rows, struct bh_error *err)
{
    struct bh_buf out;
    bh_buf_init_arena(&out, &ask->memory.arena, (ask->count + 1) * ROW_MAX);
    bh_buf_putc(&out, '[');
    for (size_t i = 0; i < ask->count; i++) {
        const struct bh_budget_want *want = &ask->wants[i];
        const struct budget *budget = &ask->budgets[i];
        if (found_only && !budget->found)
            continue;
        bh_buf_printf(
            &out, "%s{\"i\":%zu,\"no\":%d,\"name\":", out.len > 1 ? "," : "", i, want->no);
        bh_buf_json(&out, bh_str_of(want->limit));
        bh_buf_printf(&out, ",\"start\":%lld,\"ends\":%lld,\"used\":%lld,\"granted\":%lld}",
            (long long)want->begins_s, (long long)budget->ends_s, (long long)want->used,
            (long long)budget->own);
    }
    bh_buf_putc(&out, ']');
    *ret_rows = out.data;
    return bh_buf_ok(&out) ? BH_OK : bh_fail(err, BH_E_NO_MEMORY, "no memory for leases");
}

/* ---- which quotas they are ---- */

static const char quotas_sql[] =
    "SELECT w.i, (l.value->>'quota')::bigint, coalesce(l.value->>'window', 'day'),"
    " floor(extract(epoch FROM clock_timestamp()))::bigint"
    " FROM " ROWS " JOIN tenant t ON t.no = w.no AND t.cell = $2 AND t.state <> 'gone'"
    " JOIN tier r ON r.name = t.tier"
    " CROSS JOIN LATERAL jsonb_array_elements((r.edge || t.edge)->'quota_policies') l"
    " WHERE l.value->>'name' = w.name AND l.value ? 'quota'";

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

static enum bh_code
find_quotas(struct ask *ask, struct bh_error *err)
{
    PGresult *r;
    const char *rows;
    BH_TRY(write_rows(ask, false, &rows, err));
    BH_TRY(bh_db_run(ask->db, &r, err, quotas_sql, rows, ask->asker->cell));
    for (int row = 0; row < PQntuples(r); row++) {
        size_t i = (size_t)bh_db_int(r, row, 0);
        const struct bh_budget_want *want = &ask->wants[i];
        struct budget *budget = &ask->budgets[i];
        bool twice = i > 0 && compare_wants(want, want - 1) == 0;
        budget->amount = bh_db_int(r, row, 1);
        budget->found = !twice && is_now(window_of(PQgetvalue(r, row, 2)), bh_db_int(r, row, 3),
                                      want->begins_s, &budget->ends_s);
    }
    PQclear(r);
    return BH_OK;
}

/* ---- what is out ---- */

static const char make_sql[] =
    "INSERT INTO quota (no, name, window_start, ends_at)"
    " SELECT no, name, to_timestamp(start), to_timestamp(ends) FROM " ROWS
    " ORDER BY no, name, start ON CONFLICT DO NOTHING";

static const char hold_sql[] =
    "SELECT FROM quota q JOIN " ROWS " ON q.no = w.no AND q.name = w.name"
    " AND q.window_start = to_timestamp(w.start)"
    " ORDER BY q.no, q.name, q.window_start FOR UPDATE OF q";

static const char sums_sql[] =
    "WITH edges AS (SELECT id FROM agent WHERE cell = $2"
    "  AND (id = $3 OR seen_at > clock_timestamp() - interval '1 day')),"
    " n AS (SELECT count(*) AS edges, count(*) FILTER (WHERE id <> $3) AS others FROM edges)"
    " SELECT w.i, coalesce(sum(h.granted), 0),"
    " coalesce(max(h.granted) FILTER (WHERE h.source = $4), -1), greatest(1, n.edges),"
    " n.others - count(DISTINCT e.id) FILTER (WHERE e.id <> $3)"
    " FROM " ROWS " CROSS JOIN n LEFT JOIN quota_lease h ON h.no = w.no AND h.name = w.name"
    "  AND h.window_start = to_timestamp(w.start)"
    " LEFT JOIN edges e ON e.id = split_part(h.source, '/', 1)"
    " GROUP BY w.i, n.edges, n.others";

static void
read_sums(const PGresult *r, int row, struct budget *budget)
{
    int64_t start = (int64_t)bh_quota_start((uint64_t)budget->amount, SHARE);
    budget->granted = bh_db_int(r, row, 1);
    budget->own = bh_db_int(r, row, 2);
    budget->edges = bh_db_int(r, row, 3);
    budget->aside = bh_db_int(r, row, 4) * start;
    if (budget->own < 0) { /* the first time: what it took when the window began */
        budget->own = start;
        budget->granted += start;
    }
}

/* From here to the end of the transaction nobody else gets anything of them. */
static enum bh_code
hold_budgets(struct ask *ask, struct bh_error *err)
{
    PGresult *r;
    const char *rows;
    BH_TRY(write_rows(ask, true, &rows, err));
    BH_TRY(bh_db_run(ask->db, NULL, err, make_sql, rows));
    BH_TRY(bh_db_run(ask->db, NULL, err, hold_sql, rows));
    BH_TRY(bh_db_run(
        ask->db, &r, err, sums_sql, rows, ask->asker->cell, ask->asker->agent, ask->asker->source));
    for (int row = 0; row < PQntuples(r); row++)
        read_sums(r, row, &ask->budgets[bh_db_int(r, row, 0)]);
    PQclear(r);
    return BH_OK;
}

/* ---- granting ---- */

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
    " SELECT no, name, to_timestamp(start), $2, used, granted FROM " ROWS
    " ON CONFLICT (no, name, window_start, source) DO UPDATE SET"
    "  used = greatest(l.used, excluded.used), granted = excluded.granted,"
    "  asked_at = clock_timestamp()";

static enum bh_code
grant(struct ask *ask, struct bh_budget_lease *ret_leases, struct bh_error *err)
{
    const char *rows;
    for (size_t i = 0; i < ask->count; i++) {
        struct budget *budget = &ask->budgets[i];
        ret_leases[i] = (struct bh_budget_lease){.want = NULL};
        if (!budget->found)
            continue;
        int64_t more = portion(budget, &ask->wants[i]);
        budget->own += more;
        budget->granted += more;
        ret_leases[i] = (struct bh_budget_lease){.want = &ask->wants[i],
            .granted = budget->own,
            .elsewhere = budget->granted - budget->own + budget->aside,
            .left = left_of(budget)};
    }
    BH_TRY(write_rows(ask, true, &rows, err));
    return bh_db_run(ask->db, NULL, err, lease_sql, rows, ask->asker->source);
}

static enum bh_code
answer(struct ask *ask, struct bh_budget_lease *ret_leases, struct bh_error *err)
{
    ask->budgets = bh_arena_zalloc(&ask->memory.arena, (ask->count + 1) * sizeof(*ask->budgets));
    if (!ask->budgets)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for leases");
    BH_TRY(find_quotas(ask, err));
    BH_TRY(hold_budgets(ask, err));
    return grant(ask, ret_leases, err);
}

enum bh_code
bh_budget_ask(struct bh_db *db, const struct bh_budget_asker *asker, struct bh_budget_want *wants,
    size_t count, struct bh_budget_lease *ret_leases, struct bh_error *err)
{
    struct ask ask = {.db = db, .asker = asker, .wants = wants, .count = count};
    if (count == 0)
        return BH_OK;
    qsort(wants, count, sizeof(*wants), compare_wants);
    BH_TRY(bh_db_begin(db, err));
    bh_chunks_init(&ask.memory);
    enum bh_code code = answer(&ask, ret_leases, err);
    bh_chunks_fini(&ask.memory);
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
