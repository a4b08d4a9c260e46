/* /v1/tiers: what all tenants of a tier say to the edge. */
#include <string.h>

#include "control/api/api.h"
#include "control/api/page.h"
#include "control/api/write.h"
#include "core/tenantdoc.h"

static void
write_tier(struct bh_writer *w, const struct bh_tier *tier)
{
    char etag[80];

    bh_tier_etag(tier, etag);
    bh_write_open(w, NULL, '{');
    bh_write_text(w, "kind", "tier"); /* so that it is a tier's file, too */
    bh_write_text(w, "name", tier->name);
    bh_write_raw(w, "edge", tier->edge);
    bh_write_int(w, "generation", tier->generation);
    bh_write_text(w, "etag", etag);
    bh_write_time(w, "created_at", tier->created_us);
    bh_write_time(w, "updated_at", tier->updated_us);
    bh_write_close(w, '}');
}

static void
answer(struct bh_request *request, struct bh_reply *reply, const struct bh_tier *tier)
{
    struct bh_writer w = {.buf = &reply->body};
    char etag[80];

    bh_tier_etag(tier, etag);
    bh_reply_header(reply, "ETag", bh_arena_strdup(request->arena, etag));
    write_tier(&w, tier);
}

BH_HANDLER(bh_tiers_list)
{
    struct bh_writer w = {.buf = &reply->body};
    struct bh_list list = {0};
    struct bh_tier *tiers;
    size_t count;
    bool more;

    bh_page_read(request, &list.limit, &list.after);
    BH_TRY(bh_issues_code(&request->issues, err));
    BH_TRY(bh_tier_list(request->db, request->arena, &list, &tiers, &count, &more, err));
    bh_page_begin(&w);
    for (size_t i = 0; i < count; i++)
        write_tier(&w, &tiers[i]);
    bh_page_end(request, &w, more && count > 0 ? tiers[count - 1].name : NULL);
    return BH_OK;
}

BH_HANDLER(bh_tiers_get)
{
    const char *name = bh_text(request, request->params[0]);
    struct bh_tier tier;

    if (name == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    if (bh_tier_name_check(request->params[0], NULL) != BH_OK)
        return bh_fail(err, BH_E_NOT_FOUND, "there is no tier of this name");
    BH_TRY(bh_tier_get(request->db, request->arena, name, &tier, err));
    answer(request, reply, &tier);
    return BH_OK;
}

BH_HANDLER(bh_tiers_put)
{
    struct bh_tier_doc doc;
    struct bh_tier_wish wish;
    struct bh_tier tier;
    enum bh_change change;

    bh_tier_doc_read(request->json, request->params[0], &request->issues, &doc);
    BH_TRY(bh_issues_code(&request->issues, err));
    if (request->if_none_match != NULL && strcmp(request->if_none_match, "*") != 0)
        return bh_fail(err, BH_E_BAD_REQUEST, "If-None-Match may only be * here");
    wish = (struct bh_tier_wish){
        .name = bh_text(request, doc.name),
        .edge = bh_json_text_of(request, doc.edge, "{}"),
        .if_match = request->if_match,
        .create_only = request->if_none_match != NULL,
    };
    if (wish.name == NULL || wish.edge == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    BH_TRY(bh_tier_put(request->db, request->arena, &wish, &tier, &change, err));
    if (change == BH_CHANGE_CREATED)
        reply->status = 201;
    answer(request, reply, &tier);
    return BH_OK;
}
