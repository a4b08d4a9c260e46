/* /v1/servers: how the database servers are; /v1/selfcheck: what drifted in their databases. */
#include <string.h>

#include "control/api/api.h"
#include "control/api/page.h"
#include "control/api/write.h"
#include "control/registry/watch.h"

static void
write_server(struct bh_writer *w, const struct bh_server_row *row)
{
    bh_write_open(w, NULL, '{');
    bh_write_text(w, "name", row->name);
    bh_write_text(w, "cell", row->cell);
    bh_write_text(w, "state", row->state);
    bh_write_text(w, "message", row->message);
    bh_write_text(w, "extension", row->extension);
    bh_write_time(w, "changed_at", row->changed_us);
    bh_write_time(w, "read_at", row->read_us);
    bh_write_raw(w, "databases", row->databases);
    bh_write_close(w, '}');
}

BH_HANDLER(bh_servers_list)
{
    struct bh_writer w = {.buf = &reply->body};
    struct bh_server_row *rows;
    struct bh_list list = {0};
    size_t count;
    bool more;

    bh_page_read(request, &list.limit, &list.after);
    BH_TRY(bh_issues_code(&request->issues, err));
    BH_TRY(bh_server_list(request->db, request->arena, &list, &rows, &count, &more, err));
    bh_page_begin(&w);
    for (size_t i = 0; i < count; i++)
        write_server(&w, &rows[i]);
    bh_page_end(request, &w, more && count > 0 ? rows[count - 1].name : NULL);
    return BH_OK;
}

static void
write_finding(struct bh_writer *w, const struct bh_finding *finding)
{
    bh_write_open(w, NULL, '{');
    bh_write_text(w, "server", finding->server);
    bh_write_text(w, "database", finding->database);
    bh_write_text(w, "object", finding->object);
    bh_write_text(w, "problem", finding->problem);
    bh_write_text(w, "fix", finding->fix);
    bh_write_time(w, "found_at", finding->found_us);
    bh_write_close(w, '}');
}

BH_HANDLER(bh_selfcheck_get)
{
    struct bh_writer w = {.buf = &reply->body};
    const struct bh_watched place = {.server = bh_query_get(&request->query, "server"),
        .database = bh_query_get(&request->query, "database")};
    struct bh_finding *findings;
    struct bh_list list = {0};
    uint64_t id;
    size_t count;
    bool more;

    bh_page_read(request, &list.limit, &list.after);
    if (list.after != NULL && !bh_str_uint(bh_str_of(list.after), INT64_MAX, &id))
        bh_param_bad(request, "page_token", "is no page token of this list");
    BH_TRY(bh_issues_code(&request->issues, err));
    BH_TRY(
        bh_finding_list(request->db, request->arena, &list, &place, &findings, &count, &more, err));
    bh_page_begin(&w);
    for (size_t i = 0; i < count; i++)
        write_finding(&w, &findings[i]);
    bh_page_end(request, &w, more && count > 0 ? findings[count - 1].id : NULL);
    return BH_OK;
}

/* `checked_at` of each database passes ${asked_at} once it was looked at. */
BH_HANDLER(bh_selfcheck_post)
{
    struct bh_writer w = {.buf = &reply->body};
    int64_t asked_us;

    BH_TRY(bh_selfcheck_wake(request->db, NULL, 0, &asked_us, err));
    reply->status = 202;
    bh_write_open(&w, NULL, '{');
    bh_write_time(&w, "asked_at", asked_us);
    bh_write_close(&w, '}');
    return BH_OK;
}
