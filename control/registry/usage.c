#include "control/registry/registry.h"

#include <stdlib.h>

#include "control/registry/change.h"
#include "core/buf.h"
#include "core/meter.h"

/* ---- post ---- */

/* The values as three parallel arrays, the form in which SQL takes a table as parameters. */
struct columns {
    struct bh_chunks memory;
    struct bh_buf no;
    struct bh_buf meter;
    struct bh_buf value;
};

static void
open_columns(struct columns *columns, size_t count)
{
    size_t limit = 64 * (count + 1);
    bh_chunks_init(&columns->memory);
    bh_buf_init_arena(&columns->no, &columns->memory.arena, limit);
    bh_buf_init_arena(&columns->meter, &columns->memory.arena, limit);
    bh_buf_init_arena(&columns->value, &columns->memory.arena, limit);
}

/* Slugs of the meter table are plain words, so that they need no quoting once they are found. */
static enum bh_code
add_value(
    struct columns *columns, size_t i, const struct bh_usage_value *value, struct bh_error *err)
{
    char separator = i ? ',' : '{';
    enum bh_meter meter = bh_meter_find(value->meter);
    char pointer[BH_POINTER_MAX];
    if (meter == BH_METER_COUNT) {
        snprintf(pointer, sizeof(pointer), "/values/%zu/meter", i);
        return bh_fail_at(err, BH_E_INVALID, pointer, "there is no such meter");
    }
    if (value->value < 0) {
        snprintf(pointer, sizeof(pointer), "/values/%zu/value", i);
        return bh_fail_at(err, BH_E_INVALID, pointer, "a counter is never negative");
    }
    bh_buf_printf(&columns->no, "%c%d", separator, value->no);
    bh_buf_printf(&columns->meter, "%c%s", separator, bh_meter_slug(meter));
    bh_buf_printf(&columns->value, "%c%lld", separator, (long long)value->value);
    return BH_OK;
}

static enum bh_code
fill_columns(struct columns *columns, const struct bh_usage_value *values, size_t count,
    struct bh_error *err)
{
    for (size_t i = 0; i < count; i++)
        BH_TRY(add_value(columns, i, &values[i], err));
    bh_buf_putc(&columns->no, '}');
    bh_buf_putc(&columns->meter, '}');
    bh_buf_putc(&columns->value, '}');
    if (bh_buf_ok(&columns->no) && bh_buf_ok(&columns->meter) && bh_buf_ok(&columns->value))
        return BH_OK;
    return bh_fail(err, BH_E_NO_MEMORY, "no memory for %zu values", count);
}

static const char unknown_sql[] =
    "SELECT i.place - 1, i.no FROM unnest($1::int[]) WITH ORDINALITY AS i (no, place)"
    " WHERE NOT EXISTS (SELECT FROM tenant t WHERE t.no = i.no) ORDER BY i.place LIMIT 1";

static enum bh_code
check_tenants(struct bh_db *db, const struct columns *columns, struct bh_error *err)
{
    PGresult *result;
    char pointer[BH_POINTER_MAX];
    BH_TRY(bh_db_run(db, &result, err, unknown_sql, columns->no.data));
    enum bh_code code = BH_OK;
    if (PQntuples(result) > 0) {
        snprintf(pointer, sizeof(pointer), "/values/%lld/no", (long long)bh_db_int(result, 0, 0));
        code = bh_fail_at(err, BH_E_INVALID, pointer, "no tenant ever had the number %lld",
            (long long)bh_db_int(result, 0, 1));
    }
    PQclear(result);
    return code;
}

/*
 * What grew since the last post of this source and file epoch goes to the hour
 * of the sample, and the new values are kept.  A clock that runs ahead cannot
 * put usage into the future, and a sum too large for the column stops at its
 * end: one absurd counter must not keep all the others of a post out.
 */
static const char add_sql[] =
    "WITH input AS (SELECT no, meter, max(value) AS value"
    "  FROM unnest($4::int[], $5::text[], $6::bigint[]) AS i (no, meter, value)"
    "  WHERE $7::text IS NULL"
    "   OR EXISTS (SELECT FROM tenant t WHERE t.no = i.no AND t.server = $7)"
    "  GROUP BY no, meter),"
    " clock AS (SELECT least(to_timestamp($3::bigint / 1000000.0), now()) AS at),"
    " grown AS (SELECT i.no, i.meter, i.value - coalesce(s.value, 0) AS more"
    "  FROM input i LEFT JOIN usage_source s ON s.source = $1"
    "   AND s.file_epoch = $2::numeric AND s.no = i.no AND s.meter = i.meter"
    "  WHERE i.value > coalesce(s.value, 0)),"
    " kept AS (INSERT INTO usage_source AS s (source, file_epoch, no, meter, value, sampled_at)"
    "  SELECT $1, $2::numeric, i.no, i.meter, i.value, clock.at FROM input i CROSS JOIN clock"
    "  ORDER BY i.no, i.meter"
    "  ON CONFLICT (source, file_epoch, no, meter) DO UPDATE SET"
    "   value = greatest(s.value, excluded.value), sampled_at = excluded.sampled_at"
    "   WHERE excluded.value > s.value)"
    " INSERT INTO usage AS u (no, meter, hour, value)"
    " SELECT no, meter, date_trunc('hour', clock.at), more FROM grown CROSS JOIN clock"
    " ORDER BY no, meter"
    " ON CONFLICT (no, meter, hour) DO UPDATE SET"
    "  value = least(u.value::numeric + excluded.value, 9223372036854775807)::bigint";

static enum bh_code
add_usage(struct bh_db *db, const struct bh_usage_post *post, const struct columns *columns,
    struct bh_error *err)
{
    char epoch[24];
    snprintf(epoch, sizeof(epoch), "%llu", (unsigned long long)post->file_epoch);
    BH_TRY(
        bh_db_run(db, NULL, err, "SELECT pg_advisory_xact_lock(7472, hashtext($1))", post->source));
    if (!post->server)
        BH_TRY(check_tenants(db, columns, err));
    return bh_db_run(db, NULL, err, add_sql, post->source, epoch, bh_number(post->sampled_us).text,
        columns->no.data, columns->meter.data, columns->value.data, post->server);
}

static enum bh_code
post_columns(struct bh_db *db, const struct bh_usage_post *post, const struct columns *columns,
    struct bh_error *err)
{
    BH_TRY(bh_db_begin(db, err));
    enum bh_code code = add_usage(db, post, columns, err);
    if (code == BH_OK)
        return bh_db_commit(db, err);
    bh_db_rollback(db);
    return code;
}

enum bh_code
bh_usage_add(struct bh_db *db, const struct bh_usage_post *post,
    const struct bh_usage_value *values, size_t count, struct bh_error *err)
{
    struct columns columns;
    if (count == 0)
        return BH_OK;
    open_columns(&columns, count);
    enum bh_code code = fill_columns(&columns, values, count, err);
    if (code == BH_OK)
        code = post_columns(db, post, &columns, err);
    bh_chunks_fini(&columns.memory);
    return code;
}

/* ---- list ---- */

static const char list_sql[] = "SELECT t.id, u.meter, " BH_SQL_US(
    "u.hour") ", u.value"
              " FROM usage u JOIN tenant t ON t.no = u.no AND t.state <> 'gone'"
              " WHERE ($1::text IS NULL OR t.id = $1) AND ($2::text IS NULL OR u.meter = $2)"
              " AND u.hour >= to_timestamp($3::bigint / 1000000.0)"
              " AND u.hour < to_timestamp($4::bigint / 1000000.0)"
              " AND ($5::text IS NULL OR (t.id, u.meter, " BH_SQL_US(
                  "u.hour") ") >"
                            "  (split_part($5, ' ', 1) COLLATE \"C\", split_part($5, ' ', 2) COLLATE \"C\","
                            "   split_part($5, ' ', 3)::bigint))"
                            " ORDER BY t.id, u.meter, u.hour LIMIT $6";

static enum bh_code
copy_rows(struct bh_arena *arena, const PGresult *r, int count, struct bh_usage_row **ret_rows,
    struct bh_error *err)
{
    struct bh_usage_row *rows = bh_arena_zalloc(arena, (size_t)(count + 1) * sizeof(*rows));
    for (int i = 0; rows && i < count; i++) {
        rows[i] = (struct bh_usage_row){bh_db_text(r, i, 0, arena), bh_db_text(r, i, 1, arena),
            bh_db_int(r, i, 2), bh_db_int(r, i, 3)};
        if (!rows[i].tenant || !rows[i].meter)
            rows = NULL;
    }
    if (!rows)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for usage");
    *ret_rows = rows;
    return BH_OK;
}

enum bh_code
bh_usage_list(struct bh_db *db, struct bh_arena *arena, const struct bh_list *list,
    const char *meter, int64_t from_us, int64_t to_us, struct bh_usage_row **ret_rows,
    size_t *ret_count, bool *ret_more, struct bh_error *err)
{
    PGresult *result;
    BH_TRY(bh_db_run(db, &result, err, list_sql, list->tenant, meter, bh_number(from_us).text,
        bh_number(to_us).text, list->after, bh_number(list->limit + 1).text));
    int rows = PQntuples(result);
    int count = rows > list->limit ? list->limit : rows;
    enum bh_code code = copy_rows(arena, result, count, ret_rows, err);
    PQclear(result);
    BH_TRY(code);
    *ret_count = (size_t)count;
    *ret_more = rows > count;
    return BH_OK;
}
