/* POST /v1/leases: agents ask for what their edges may use of quotas. */
#include "control/api/api.h"
#include "control/api/posted.h"
#include "control/api/write.h"
#include "control/registry/quota.h"
#include "core/time.h"

#define WANTS_MAX 500
#define UNITS_MAX (INT64_C(1) << 50) /* the largest quota */

struct post {
    struct bh_str source;
    const struct bh_json *wants;
};

struct want {
    int64_t no;
    struct bh_str limit;
    struct bh_str window_start;
    int64_t used;
    int64_t want;
};

static const struct bh_field want_rows[] = {
    {.name = "no",
        .kind = BH_FIELD_INT,
        .required = true,
        .min = 1,
        .max = INT32_MAX,
        .offset = offsetof(struct want, no)},
    {.name = "limit",
        .kind = BH_FIELD_STRING,
        .required = true,
        .min = 1,
        .max = 40,
        .offset = offsetof(struct want, limit),
        .rule = bh_posted_source_rule},
    {.name = "window_start",
        .kind = BH_FIELD_STRING,
        .required = true,
        .max = BH_BODY_MAX,
        .offset = offsetof(struct want, window_start),
        .rule = bh_posted_time_rule},
    {.name = "used",
        .kind = BH_FIELD_INT,
        .required = true,
        .max = INT64_MAX,
        .offset = offsetof(struct want, used)},
    {.name = "want",
        .kind = BH_FIELD_INT,
        .required = true,
        .max = UNITS_MAX,
        .offset = offsetof(struct want, want)},
};
static const struct bh_fields want_fields = {want_rows, sizeof(want_rows) / sizeof(want_rows[0])};

static const struct bh_field rows[] = {
    {.name = "source",
        .kind = BH_FIELD_STRING,
        .required = true,
        .min = 1,
        .max = BH_SOURCE_MAX,
        .offset = offsetof(struct post, source),
        .rule = bh_posted_source_rule},
    {.name = "wants",
        .kind = BH_FIELD_LIST,
        .required = true,
        .max = WANTS_MAX,
        .offset = offsetof(struct post, wants),
        .fields = &want_fields},
};
static const struct bh_fields fields = {rows, sizeof(rows) / sizeof(rows[0])};

static enum bh_code
read_wants(struct bh_request *request, const struct bh_json *list, struct bh_budget_want *wants,
    size_t *ret_count, struct bh_error *err)
{
    *ret_count = 0;
    for (const struct bh_json *item = list->first; item != NULL; item = item->next) {
        struct want want = {0};
        int64_t begins_us = 0;
        bh_fields_take(&want_fields, item, &want);
        (void)bh_time_parse(want.window_start, &begins_us); /* checked by its rule */
        wants[*ret_count] = (struct bh_budget_want){
            .no = (int32_t)want.no,
            .limit = bh_text(request, want.limit),
            .begins_s = begins_us / 1000000,
            .used = want.used,
            .want = want.want,
        };
        if (wants[(*ret_count)++].limit == NULL)
            return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    }
    return BH_OK;
}

static void
write_leases(struct bh_buf *out, const struct bh_budget_lease *leases, size_t count)
{
    struct bh_writer w = {.buf = out};
    bh_write_open(&w, NULL, '{');
    bh_write_open(&w, "leases", '[');
    for (size_t i = 0; i < count; i++) {
        if (leases[i].want == NULL)
            continue;
        bh_write_open(&w, NULL, '{');
        bh_write_int(&w, "no", leases[i].want->no);
        bh_write_text(&w, "limit", leases[i].want->limit);
        bh_write_time(&w, "window_start", leases[i].want->begins_s * 1000000);
        bh_write_int(&w, "granted", leases[i].granted);
        bh_write_int(&w, "elsewhere", leases[i].elsewhere);
        bh_write_int(&w, "left", leases[i].left);
        bh_write_close(&w, '}');
    }
    bh_write_close(&w, ']');
    bh_write_close(&w, '}');
}

BH_HANDLER(bh_leases_post)
{
    struct post post = {0};
    struct bh_budget_want *wants = bh_arena_zalloc(request->arena, WANTS_MAX * sizeof(*wants));
    struct bh_budget_lease *leases = bh_arena_zalloc(request->arena, WANTS_MAX * sizeof(*leases));
    size_t count;

    BH_TRY(bh_body_read(request, &fields, &post, err));
    BH_TRY(bh_posted_source_check(request, post.source, err));
    if (wants == NULL || leases == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    BH_TRY(read_wants(request, post.wants, wants, &count, err));
    const struct bh_budget_asker asker = {
        request->principal.id, request->principal.cell, bh_text(request, post.source)};
    if (asker.source == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    BH_TRY(bh_budget_ask(request->db, &asker, wants, count, leases, err));
    write_leases(&reply->body, leases, count);
    return BH_OK;
}
