/* /v1/usage: what tenants used, by hour; and the absolute values that agents post. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "control/api/api.h"
#include "control/api/page.h"
#include "control/api/posted.h"
#include "control/api/write.h"
#include "core/meter.h"
#include "core/time.h"

#define DAY_US (INT64_C(86400) * 1000000)
#define TIME_MIN_US (INT64_C(-62167305600) * 1000000) /* years 0000 to 9999 and any offset */
#define TIME_MAX_US (INT64_C(253402387200) * 1000000)
_Static_assert(BH_TENANT_ID_MAX == 48, "a page token's tenant is read with %48s");

/* ---- GET ---- */

struct span {
    int64_t from_us;
    int64_t to_us;
};

static int64_t
now_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/*
 * A page token carries the span of the first page, because a default one moves
 * on, and the key of the last row: "<from> <to> <tenant> <meter> <hour>".
 */
static bool
read_after(const char **after, struct span *span)
{
    char tenant[BH_TENANT_ID_MAX + 1];
    char meter[32];
    char hour[19]; /* any number of so many digits is an int64 */
    int key = 0;
    int end = 0;

    if (sscanf(*after, "%" SCNd64 " %" SCNd64 " %n%48s %31s %18[0-9]%n", &span->from_us,
            &span->to_us, &key, tenant, meter, hour, &end) != 5 ||
        (*after)[end] != '\0' || span->from_us < TIME_MIN_US || span->from_us > TIME_MAX_US ||
        span->to_us < TIME_MIN_US || span->to_us > TIME_MAX_US)
        return false;
    *after += key;
    return true;
}

/* The span that is asked for, and the key of the last row of the page before. */
static void
read_span(struct bh_request *request, const char **after, struct span *span)
{
    span->to_us = now_us();
    span->from_us = span->to_us - DAY_US;
    bh_param_time(request, "to", &span->to_us);
    if (bh_query_get(&request->query, "from") == NULL)
        span->from_us = span->to_us - DAY_US;
    bh_param_time(request, "from", &span->from_us);
    if (*after != NULL && !read_after(after, span))
        bh_param_bad(request, "page_token", "is no page token of this list");
}

static void
write_row(struct bh_writer *w, const struct bh_usage_row *row)
{
    bh_write_open(w, NULL, '{');
    bh_write_text(w, "tenant", row->tenant);
    bh_write_text(w, "meter", row->meter);
    bh_write_time(w, "hour", row->hour_us);
    bh_write_int(w, "value", row->value);
    bh_write_close(w, '}');
}

BH_HANDLER(bh_usage_get)
{
    const char *meter = bh_query_get(&request->query, "meter");
    struct bh_writer w = {.buf = &reply->body};
    struct bh_list list = {.tenant = bh_query_get(&request->query, "tenant")};
    struct bh_usage_row *rows;
    struct span span;
    const char *last = NULL;
    size_t count;
    bool more;

    bh_page_read(request, &list.limit, &list.after);
    read_span(request, &list.after, &span);
    if (meter != NULL && bh_meter_find(meter) == BH_METER_COUNT)
        bh_param_bad(request, "meter", "is no meter");
    BH_TRY(bh_issues_code(&request->issues, err));
    BH_TRY(bh_usage_list(request->db, request->arena, &list, meter, span.from_us, span.to_us, &rows,
        &count, &more, err));
    bh_page_begin(&w);
    for (size_t i = 0; i < count; i++)
        write_row(&w, &rows[i]);
    if (more && count > 0)
        last =
            bh_arena_printf(request->arena, "%" PRId64 " %" PRId64 " %s %s %" PRId64, span.from_us,
                span.to_us, rows[count - 1].tenant, rows[count - 1].meter, rows[count - 1].hour_us);
    bh_page_end(request, &w, last);
    return BH_OK;
}

/* ---- POST ---- */

struct post {
    struct bh_str source;
    uint64_t file_epoch;
    struct bh_str sampled_at;
    const struct bh_json *values;
};

struct value {
    int64_t no;
    struct bh_str meter;
    int64_t value;
};

static enum bh_code
check_meter(struct bh_str text, struct bh_error *err)
{
    for (int meter = 0; meter < BH_METER_COUNT; meter++)
        if (bh_str_is(text, bh_meter_slug((enum bh_meter)meter)))
            return meter < BH_METER_EDGE_COUNT
                       ? BH_OK
                       : bh_fail(err, BH_E_INVALID, "is counted by the database servers only");
    return bh_fail(err, BH_E_INVALID, "is no meter");
}

static const struct bh_field value_rows[] = {
    {.name = "no",
        .kind = BH_FIELD_INT,
        .required = true,
        .min = 1,
        .max = INT32_MAX,
        .offset = offsetof(struct value, no)},
    {.name = "meter",
        .kind = BH_FIELD_STRING,
        .required = true,
        .max = BH_BODY_MAX,
        .offset = offsetof(struct value, meter),
        .rule = check_meter},
    {.name = "value",
        .kind = BH_FIELD_INT,
        .required = true,
        .max = INT64_MAX,
        .offset = offsetof(struct value, value)},
};
static const struct bh_fields value_fields = {
    value_rows, sizeof(value_rows) / sizeof(value_rows[0])};

static const struct bh_field post_rows[] = {
    {.name = "source",
        .kind = BH_FIELD_STRING,
        .required = true,
        .min = 1,
        .max = BH_SOURCE_MAX,
        .offset = offsetof(struct post, source),
        .rule = bh_posted_source_rule},
    {.name = "file_epoch",
        .kind = BH_FIELD_UINT,
        .required = true,
        .offset = offsetof(struct post, file_epoch)},
    {.name = "sampled_at",
        .kind = BH_FIELD_STRING,
        .required = true,
        .max = BH_BODY_MAX,
        .offset = offsetof(struct post, sampled_at),
        .rule = bh_posted_time_rule},
    {.name = "values",
        .kind = BH_FIELD_LIST,
        .required = true,
        .max = BH_BODY_MAX,
        .offset = offsetof(struct post, values),
        .fields = &value_fields},
};
static const struct bh_fields post_fields = {post_rows, sizeof(post_rows) / sizeof(post_rows[0])};

static enum bh_code
read_values(struct bh_request *request, const struct bh_json *list,
    struct bh_usage_value **ret_values, size_t *ret_count, struct bh_error *err)
{
    struct bh_usage_value *values;
    size_t count = 0;

    for (const struct bh_json *item = list->first; item != NULL; item = item->next)
        count++;
    values = bh_arena_zalloc(request->arena, (count + 1) * sizeof(*values));
    if (values == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    count = 0;
    for (const struct bh_json *item = list->first; item != NULL; item = item->next) {
        struct value value = {0};
        bh_fields_take(&value_fields, item, &value);
        values[count].no = (int32_t)value.no;
        values[count].meter = bh_text(request, value.meter);
        values[count].value = value.value;
        if (values[count++].meter == NULL)
            return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    }
    *ret_values = values;
    *ret_count = count;
    return BH_OK;
}

BH_HANDLER(bh_usage_post_all)
{
    struct bh_usage_value *values = NULL;
    struct post post = {0};
    int64_t sampled_us;
    size_t count = 0;

    BH_TRY(bh_body_read(request, &post_fields, &post, err));
    BH_TRY(bh_posted_source_check(request, post.source, err));
    BH_TRY(read_values(request, post.values, &values, &count, err));
    if (!bh_time_parse(post.sampled_at, &sampled_us))
        return bh_fail_at(err, BH_E_INVALID, "/sampled_at", "must be a time as in RFC 3339");
    const struct bh_usage_post add = {
        bh_text(request, post.source), post.file_epoch, sampled_us, NULL};
    if (add.source == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    BH_TRY(bh_usage_add(request->db, &add, values, count, err));
    reply->status = 204;
    return BH_OK;
}
