#include "engine/postgres/watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/str.h"
#include "engine/postgres/sql.h"

#define CONNECT_TIMEOUT_S 3
#define ANSWER_MS 5000
#define CHECK_MS 65000

void
bh_link_close(struct bh_link *link)
{
    PQfinish(link->conn);
    *link = (struct bh_link){0};
}

/* A row of one statement without parameters. */
static enum bh_code
ask(struct bh_link *link, const char *sql, PGresult **ret_result, struct bh_error *err)
{
    const struct bh_sql_call call = {.sql = sql, .timeout_ms = ANSWER_MS};
    return bh_sql_call(link->conn, &call, ret_result, err);
}

static const char look_sql[] =
    "SELECT coalesce(current_setting('bulkhead.server', true), ''),"
    " coalesce((SELECT extversion FROM pg_extension WHERE extname = 'bulkhead'), ''),"
    " to_regclass('bulkhead.usage') IS NOT NULL,"
    " to_regprocedure('bulkhead.audit_read(bigint,integer)') IS NOT NULL"
    "  AND to_regprocedure('bulkhead.audit_state()') IS NOT NULL,"
    " to_regprocedure('bulkhead.selfcheck()') IS NOT NULL";

enum bh_code
bh_link_look(struct bh_link *link, const char *server, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(ask(link, look_sql, &r, err));
    enum bh_code code = BH_OK;
    if (server && strcmp(PQgetvalue(r, 0, 0), server) != 0)
        code = bh_fail(err, BH_E_CONFIG, "it calls itself \"%.63s\" (bulkhead.server), not \"%s\"",
            PQgetvalue(r, 0, 0), server);
    snprintf(link->extension, sizeof(link->extension), "%s", PQgetvalue(r, 0, 1));
    link->usage = PQgetvalue(r, 0, 2)[0] == 't';
    link->audit = PQgetvalue(r, 0, 3)[0] == 't';
    link->check = PQgetvalue(r, 0, 4)[0] == 't';
    PQclear(r);
    return code;
}

/* jit would be compiled anew for each of our small reads; 32 MB group the counters of 10 000
 * tenants without a file. */
static const char session_sql[] =
    "SELECT set_config('statement_timeout', '4s', false), set_config('lock_timeout', '2s', false),"
    " set_config('idle_in_transaction_session_timeout', '10s', false),"
    " set_config('jit', 'off', false), set_config('work_mem', '32MB', false),"
    " set_config('application_name', 'bulkhead watch', false)";

enum bh_code
bh_link_open(struct bh_link *link, const char *conninfo, const char *database, struct bh_error *err)
{
    bh_link_close(link);
    BH_TRY(bh_sql_connect(conninfo, database, CONNECT_TIMEOUT_S, &link->conn, err));
    enum bh_code code = ask(link, session_sql, NULL, err);
    if (code == BH_OK)
        code = bh_link_look(link, NULL, err);
    if (code != BH_OK)
        bh_link_close(link);
    return code;
}

/* ---- usage ---- */

static const char usage_sql[] =
    "SELECT no, max(file_epoch), (extract(epoch from max(sampled_at)) * 1000000)::bigint,"
    " string_agg(meter || '=' || value, ' ') FROM bulkhead.usage WHERE value <> 0"
    " GROUP BY no, file_epoch";

static enum bh_code
no_counter(const char *text, struct bh_error *err)
{
    return bh_fail(err, BH_E_ENGINE, "bulkhead.usage says \"%.40s\", which is no counter", text);
}

/* One `meter=value`; a meter that this program does not know is of a newer extension. */
static enum bh_code
read_meter(struct bh_str word, struct bh_link_counters *counters, struct bh_error *err)
{
    struct bh_str slug, digits;
    uint64_t value;
    if (!bh_str_cut(word, '=', &slug, &digits) || !bh_str_uint(digits, INT64_MAX, &value))
        return no_counter(word.data, err);
    for (int i = BH_METER_EDGE_COUNT; i < BH_METER_COUNT; i++)
        if (bh_str_is(slug, bh_meter_slug((enum bh_meter)i)))
            counters->values[i - BH_METER_EDGE_COUNT] = (int64_t)value;
    return BH_OK;
}

static enum bh_code
read_meters(const char *text, struct bh_link_counters *counters, struct bh_error *err)
{
    struct bh_str rest = bh_str_of(text);
    struct bh_str word;
    for (int i = 0; i < BH_METER_DATABASE_COUNT; i++)
        counters->values[i] = -1;
    while (bh_str_cut(rest, ' ', &word, &rest))
        BH_TRY(read_meter(word, counters, err));
    return rest.len ? read_meter(rest, counters, err) : BH_OK;
}

static enum bh_code
read_row(const PGresult *r, int row, struct bh_link_counters *ret_counters, struct bh_error *err)
{
    uint64_t no;
    if (!bh_str_uint(bh_str_of(PQgetvalue(r, row, 0)), INT32_MAX, &no) || no == 0)
        return no_counter(PQgetvalue(r, row, 0), err);
    ret_counters->no = (int32_t)no;
    return read_meters(PQgetvalue(r, row, 3), ret_counters, err);
}

/* Rows of one read have one epoch: it changes with a restart of the server only. */
static enum bh_code
read_usage(
    const PGresult *r, struct bh_arena *arena, struct bh_link_usage *usage, struct bh_error *err)
{
    size_t count = (size_t)PQntuples(r);
    usage->tenants = bh_arena_zalloc(arena, (count + 1) * sizeof(*usage->tenants));
    if (!usage->tenants)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for the usage of %zu tenants", count);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 && !bh_str_uint(bh_str_of(PQgetvalue(r, 0, 1)), INT64_MAX, &usage->file_epoch))
            return no_counter(PQgetvalue(r, 0, 1), err);
        if (strcmp(PQgetvalue(r, (int)i, 1), PQgetvalue(r, 0, 1)) != 0)
            return bh_fail(err, BH_E_ENGINE, "bulkhead.usage speaks of two epochs at once");
        BH_TRY(read_row(r, (int)i, &usage->tenants[i], err));
    }
    usage->sampled_us = count ? strtoll(PQgetvalue(r, 0, 2), NULL, 10) : 0;
    usage->count = count;
    return BH_OK;
}

enum bh_code
bh_link_usage(struct bh_link *link, struct bh_arena *arena, struct bh_link_usage *ret_usage,
    struct bh_error *err)
{
    PGresult *r;
    struct bh_link_usage usage = {0};
    BH_TRY(ask(link, usage_sql, &r, err));
    enum bh_code code = read_usage(r, arena, &usage, err);
    PQclear(r);
    if (code == BH_OK)
        *ret_usage = usage;
    return code;
}

/* ---- refusals ---- */

enum bh_code
bh_link_ring(struct bh_link *link, struct bh_link_ring *ret_ring, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(ask(link, "SELECT epoch, head, suppressed FROM bulkhead.audit_state()", &r, err));
    bool one = PQntuples(r) == 1;
    if (one)
        *ret_ring = (struct bh_link_ring){strtoll(PQgetvalue(r, 0, 0), NULL, 10),
            strtoll(PQgetvalue(r, 0, 1), NULL, 10), strtoll(PQgetvalue(r, 0, 2), NULL, 10)};
    PQclear(r);
    return one ? BH_OK : bh_fail(err, BH_E_ENGINE, "bulkhead.audit_state() says nothing");
}

/* The only field of the answer, in ${arena}. */
static enum bh_code
ask_text(struct bh_link *link, const struct bh_sql_call *call, struct bh_arena *arena,
    const char **ret_text, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_sql_call(link->conn, call, &r, err));
    const char *text = bh_arena_strdup(arena, PQntuples(r) == 1 ? PQgetvalue(r, 0, 0) : "[]");
    PQclear(r);
    if (!text)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for an answer of PostgreSQL");
    *ret_text = text;
    return BH_OK;
}

enum bh_code
bh_link_audit(struct bh_link *link, struct bh_arena *arena, int64_t after, int most,
    const char **ret_json, struct bh_error *err)
{
    char numbers[2][24];
    const char *params[] = {numbers[0], numbers[1]};
    const struct bh_sql_call call = {"SELECT coalesce(jsonb_agg(to_jsonb(r) ORDER BY r.seq), '[]')"
                                     " FROM bulkhead.audit_read($1::bigint, $2::int) r",
        2, params, ANSWER_MS};
    snprintf(numbers[0], sizeof(numbers[0]), "%lld", (long long)after);
    snprintf(numbers[1], sizeof(numbers[1]), "%d", most);
    return ask_text(link, &call, arena, ret_json, err);
}

/* ---- drift ---- */

static const char check_sql[] =
    "SELECT coalesce(jsonb_agg(to_jsonb(f)), '[]') FROM"
    " (SELECT left(object, 300) AS object, left(problem, 500) AS problem, left(fix, 1000) AS fix"
    "  FROM bulkhead.selfcheck() LIMIT 500) f";

enum bh_code
bh_link_check(
    struct bh_link *link, struct bh_arena *arena, const char **ret_json, struct bh_error *err)
{
    const struct bh_sql_call call = {.sql = check_sql, .timeout_ms = CHECK_MS};
    BH_TRY(ask(link, "SELECT set_config('statement_timeout', '60s', false)", NULL, err));
    return ask_text(link, &call, arena, ret_json, err);
}
