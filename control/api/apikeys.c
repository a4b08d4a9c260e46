/* /v1/tenants/{id}/api-keys: credentials of machines. */
#include <openssl/rand.h>
#include <string.h>

#include "control/api/api.h"
#include "control/api/page.h"
#include "control/api/write.h"
#include "control/registry/credential.h"
#include "core/codec.h"
#include "core/token.h"

#define TTL_MAX_S INT64_C(315360000) /* ten years */

struct order {
    struct bh_str name;
    struct bh_str sub;
    struct bh_str scope;
    const struct bh_json *roles;
    int64_t ttl_s;
};

static enum bh_code
check_name(struct bh_str text, struct bh_error *err)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.data[i] < ' ' || text.data[i] == 0x7f)
            return bh_fail(err, BH_E_INVALID, "must not contain control characters");
    return bh_utf8_valid(text) ? BH_OK : bh_fail(err, BH_E_INVALID, "must be UTF-8");
}

static enum bh_code
check_word(struct bh_str text, struct bh_error *err)
{
    return bh_token_word_valid(text)
               ? BH_OK
               : bh_fail(err, BH_E_INVALID,
                     "must be printable ASCII without space, double quote or backslash");
}

static enum bh_code
check_role(struct bh_str text, struct bh_error *err)
{
    return text.len > 64 ? bh_fail(err, BH_E_INVALID, "must have at most 64 characters")
                         : check_word(text, err);
}

static enum bh_code
check_scope(struct bh_str text, struct bh_error *err)
{
    return bh_token_scope_valid(text)
               ? BH_OK
               : bh_fail(err, BH_E_INVALID, "must be words parted by single spaces");
}

#define FIELD(member, text_, kind_, ...)                                                           \
    {                                                                                              \
        .name = (text_), .kind = (kind_), .offset = offsetof(struct order, member), __VA_ARGS__    \
    }
static const struct bh_field rows[] = {
    FIELD(
        name, "name", BH_FIELD_STRING, .min = 1, .max = 200, .rule = check_name, .required = true),
    FIELD(sub, "sub", BH_FIELD_STRING, .min = 1, .max = 255, .rule = check_word),
    FIELD(scope, "scope", BH_FIELD_STRING, .max = 255, .rule = check_scope),
    FIELD(roles, "roles", BH_FIELD_WORDS, .max = BH_APIKEY_ROLES_MAX, .rule = check_role),
    FIELD(ttl_s, "ttl_seconds", BH_FIELD_INT, .min = 60, .max = TTL_MAX_S),
};
static const struct bh_fields fields = {rows, sizeof(rows) / sizeof(rows[0])};

static enum bh_code
find_tenant(struct bh_request *request, struct bh_tenant *ret_tenant, struct bh_error *err)
{
    const char *id = bh_text(request, request->params[0]);
    if (id == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    return bh_tenant_get(request->db, request->arena, id, ret_tenant, err);
}

/* The name of the key's document in the tenant's cell. */
static enum bh_code
name_document(struct bh_request *request, const char *cell,
    const uint8_t digest[BH_APIKEY_DIGEST_BYTES], char ret_name[BH_APIKEY_NAME],
    struct bh_error *err)
{
    struct bh_cell_keys *keys = bh_arena_zalloc(request->arena, sizeof(*keys));
    struct bh_key hash;
    struct bh_mac *mac = NULL;
    enum bh_code code;

    if (keys == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    BH_TRY(bh_cell_keys_get(request->db, request->arena, cell, keys, err));
    code = bh_key_cell_hash(request->config->master, &keys->install, &keys->cell, &hash, err);
    if (code == BH_OK)
        code = bh_mac_new(&hash, &mac, err);
    if (code == BH_OK)
        code = bh_apikey_name(mac, digest, ret_name, err);
    bh_mac_free(mac);
    bh_wipe(&hash, sizeof(hash));
    return code;
}

static const char *
roles_json(struct bh_request *request, const struct bh_json *roles)
{
    struct bh_buf out;
    bh_buf_init_arena(&out, request->arena, BH_BODY_MAX);
    bh_buf_putc(&out, '[');
    for (const struct bh_json *item = roles == NULL ? NULL : roles->first; item != NULL;
         item = item->next) {
        bh_buf_puts(&out, item == roles->first ? "" : ",");
        bh_buf_json(&out, item->text);
    }
    bh_buf_putc(&out, ']');
    return bh_buf_ok(&out) ? out.data : NULL;
}

static enum bh_code
make_key(char ret_key[BH_APIKEY_MADE], struct bh_error *err)
{
    uint8_t random[128];
    enum bh_code code = BH_E_INVALID;
    for (int i = 0; i < 4 && code != BH_OK; i++)
        code = RAND_bytes(random, sizeof(random)) == 1
                   ? bh_apikey_make(random, sizeof(random), ret_key)
                   : BH_E_INTERNAL;
    bh_wipe(random, sizeof(random));
    return code == BH_OK ? BH_OK : bh_fail(err, BH_E_INTERNAL, "no randomness for an API key");
}

/* Keep the key in the registry, and publish it. */
static enum bh_code
keep(struct bh_request *request, const struct order *order, const struct bh_tenant *tenant,
    struct bh_str key, const char **ret_json, struct bh_error *err)
{
    uint8_t digest[BH_APIKEY_DIGEST_BYTES];
    char hex[2 * BH_APIKEY_DIGEST_BYTES + 1];
    char document[BH_APIKEY_NAME];
    struct bh_buf text;
    BH_TRY(bh_apikey_digest(key, digest, err));
    BH_TRY(name_document(request, tenant->cell, digest, document, err));
    bh_buf_init(&text, hex, sizeof(hex));
    bh_buf_hex(&text, digest, sizeof(digest));
    const struct bh_apikey_new what = {.no = tenant->no,
        .cell = tenant->cell,
        .prefix = bh_text(request, bh_apikey_prefix(key)),
        .digest = hex,
        .document = document,
        .name = bh_text(request, order->name),
        .sub = order->sub.len > 0 ? bh_text(request, order->sub)
                                  : bh_text(request, bh_apikey_prefix(key)),
        .scope = order->scope.len > 0 ? bh_text(request, order->scope) : "",
        .roles = roles_json(request, order->roles),
        .ttl_s = order->ttl_s};
    if (what.prefix == NULL || what.name == NULL || what.sub == NULL || what.scope == NULL ||
        what.roles == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    return bh_apikey_add(request->db, request->arena, &what, ret_json, err);
}

BH_HANDLER(bh_apikeys_post)
{
    struct order order = {.ttl_s = 0};
    struct bh_tenant tenant;
    char key[BH_APIKEY_MADE];
    const char *json;
    enum bh_code code;

    BH_TRY(find_tenant(request, &tenant, err));
    BH_TRY(bh_body_read(request, &fields, &order, err));
    BH_TRY(make_key(key, err));
    code = keep(request, &order, &tenant, bh_str_of(key), &json, err);
    if (code == BH_OK) {
        char *storage = bh_arena_alloc(request->arena, BH_BODY_MAX);
        if (storage == NULL)
            return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
        reply->status = 201;
        reply->secret = true;
        bh_buf_init(&reply->body, storage, BH_BODY_MAX); /* never moves: one copy to wipe */
        bh_buf_printf(&reply->body, "{\"key\":\"%s\",%s", key, json + 1);
    }
    bh_wipe(key, sizeof(key));
    return code;
}

BH_HANDLER(bh_apikeys_list)
{
    struct bh_tenant tenant;
    struct bh_shown *shown;
    struct bh_list list = {0};
    size_t count;
    bool more;

    bh_page_read(request, &list.limit, &list.after);
    BH_TRY(bh_issues_code(&request->issues, err));
    BH_TRY(find_tenant(request, &tenant, err));
    BH_TRY(
        bh_apikey_list(request->db, request->arena, tenant.no, &list, &shown, &count, &more, err));
    bh_shown_write(request, reply, shown, count, more);
    return BH_OK;
}

BH_HANDLER(bh_apikeys_delete)
{
    struct bh_tenant tenant;
    const char *id = bh_text(request, request->params[1]);

    if (id == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    BH_TRY(find_tenant(request, &tenant, err));
    BH_TRY(bh_apikey_delete(request->db, tenant.no, id, err));
    reply->status = 204;
    return BH_OK;
}
