/* /v1/issuers: who vouches for the people of tenants. */
#include <string.h>

#include "control/api/api.h"
#include "control/api/page.h"
#include "control/api/write.h"
#include "control/registry/credential.h"
#include "core/issuer.h"
#include "engine/jwks/fetch.h"

#define NAME_MAX_BYTES 40 /* as a policy names one */

/* Read-only members that answers show and input may repeat. */
static const char *const shown_only[] = {
    "name", "generation", "status", "created_at", "updated_at", "jwks_url"};

static bool
is_name(struct bh_str text)
{
    bool ok = text.len >= 1 && text.len <= NAME_MAX_BYTES;
    for (size_t i = 0; ok && i < text.len; i++) {
        char c = text.data[i];
        ok = (c >= 'a' && c <= 'z') || (i > 0 && ((c >= '0' && c <= '9') || c == '-' || c == '_'));
    }
    return ok;
}

static bool
is_shown_only(struct bh_str name)
{
    for (size_t i = 0; i < sizeof(shown_only) / sizeof(shown_only[0]); i++)
        if (bh_str_is(name, shown_only[i]))
            return true;
    return false;
}

/* The object without the members that core/issuer.h does not know; borrows the others' content. */
static const struct bh_json *
own_members(struct bh_request *request)
{
    struct bh_json *object = bh_arena_zalloc(request->arena, sizeof(*object));
    struct bh_json **last = object == NULL ? NULL : &object->first;
    if (object == NULL)
        return NULL;
    object->kind = BH_JSON_OBJECT;
    for (const struct bh_json *item = request->json->first; item != NULL; item = item->next) {
        if (is_shown_only(item->name))
            continue;
        *last = bh_arena_alloc(request->arena, sizeof(**last));
        if (*last == NULL)
            return NULL;
        **last = *item;
        (*last)->next = NULL;
        last = &(*last)->next;
    }
    return object;
}

static void
wrong(struct bh_request *request, const char *name, const char *detail)
{
    const char *pointer = bh_arena_printf(request->arena, "/%s", name);
    (void)bh_issues_add(&request->issues, BH_ISSUE_VALUE, bh_json_get(request->json, name),
        pointer == NULL ? "" : pointer, detail);
}

/* Where the keys come from: given, or from a URL that may be asked. */
static void
check_source(struct bh_request *request, const struct bh_issuer *issuer)
{
    const struct bh_json *url = bh_json_get(request->json, "jwks_url");
    struct bh_error why;
    if (url != NULL && url->kind != BH_JSON_STRING)
        wrong(request, "jwks_url", "must be a string");
    else if (url != NULL && issuer->jwks != NULL)
        wrong(request, "jwks_url", "goes without keys: they are given or fetched");
    else if (url != NULL && bh_jwks_url_check(url->text, &why) != BH_OK)
        wrong(request, "jwks_url", why.detail);
    else if (url == NULL && issuer->jwks == NULL &&
             bh_jwks_url_check(issuer->issuer, &why) != BH_OK)
        wrong(request, "issuer", "must be an https URL where neither keys nor jwks_url are given");
}

static void
check_body(struct bh_request *request, const char *name)
{
    const struct bh_json *said = bh_json_get(request->json, "name");
    const struct bh_json *own =
        request->json->kind == BH_JSON_OBJECT ? own_members(request) : request->json;
    struct bh_issuer issuer;
    size_t before = request->issues.count;
    if (own == NULL) {
        request->issues.failed = true;
        return;
    }
    bh_issuer_read(own, "", request->arena, &request->issues, &issuer);
    if (request->issues.count == before && !request->issues.failed)
        check_source(request, &issuer);
    bh_issuer_fini(&issuer);
    if (said != NULL && (said->kind != BH_JSON_STRING || !bh_str_is(said->text, name)))
        wrong(request, "name", "is not the name in the path");
}

static const char *
name_of(struct bh_request *request)
{
    return bh_text(request, request->params[0]);
}

BH_HANDLER(bh_issuers_put)
{
    struct bh_issuer_wish wish = {
        .name = name_of(request), .settings = bh_text(request, request->body)};
    const struct bh_json *given = bh_json_get(request->json, "keys");
    const char *json;
    struct bh_str keys;
    bool created;

    if (wish.name == NULL || wish.settings == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    if (!is_name(request->params[0]))
        (void)bh_issues_add(&request->issues, BH_ISSUE_VALUE, NULL, "/name",
            "must be 1 to 40 of a-z 0-9 - _, and begin with a letter");
    check_body(request, wish.name);
    BH_TRY(bh_issues_code(&request->issues, err));
    if (given != NULL) {
        BH_TRY(bh_jwks_trim(given, request->arena, &keys, err));
        wish.keys = keys.data;
    }
    BH_TRY(bh_issuer_put(request->db, request->arena, &wish, &created, &json, err));
    reply->status = created ? 201 : 200;
    bh_buf_puts(&reply->body, json);
    return BH_OK;
}

BH_HANDLER(bh_issuers_get)
{
    const char *json;
    BH_TRY(bh_issuer_get(request->db, request->arena, name_of(request), &json, err));
    bh_buf_puts(&reply->body, json);
    return BH_OK;
}

void
bh_shown_write(struct bh_request *request, struct bh_reply *reply, const struct bh_shown *rows,
    size_t count, bool more)
{
    struct bh_writer w = {.buf = &reply->body};
    bh_page_begin(&w);
    for (size_t i = 0; i < count; i++)
        bh_write_raw(&w, NULL, rows[i].json);
    bh_page_end(request, &w, more && count > 0 ? rows[count - 1].key : NULL);
}

BH_HANDLER(bh_issuers_list)
{
    struct bh_shown *rows;
    struct bh_list list = {0};
    size_t count;
    bool more;

    bh_page_read(request, &list.limit, &list.after);
    BH_TRY(bh_issues_code(&request->issues, err));
    BH_TRY(bh_issuer_list(request->db, request->arena, &list, &rows, &count, &more, err));
    bh_shown_write(request, reply, rows, count, more);
    return BH_OK;
}

BH_HANDLER(bh_issuers_delete)
{
    BH_TRY(bh_issuer_delete(request->db, name_of(request), err));
    reply->status = 204;
    return BH_OK;
}

BH_HANDLER(bh_issuers_refresh)
{
    struct bh_writer w = {.buf = &reply->body};
    BH_TRY(bh_issuer_refresh(request->db, name_of(request), err));
    reply->status = 202;
    bh_write_open(&w, NULL, '{');
    bh_write_str(&w, "name", request->params[0]);
    bh_write_close(&w, '}');
    return BH_OK;
}
