/* POST /v1/tokens: user tokens for the edge, and job tokens for a tenant's database. */
#include <string.h>
#include <time.h>

#include "control/api/api.h"
#include "control/api/write.h"
#include "core/codec.h"
#include "core/token.h"
#include "core/usertoken.h"

struct order {
    struct bh_str tenant;
    struct bh_str sub;
    struct bh_str use;
    int64_t ttl_s;
};

static enum bh_code
check_sub(struct bh_str text, struct bh_error *err)
{
    if (bh_token_word_valid(text))
        return BH_OK;
    return bh_fail(
        err, BH_E_INVALID, "must be printable ASCII without space, double quote or backslash");
}

static enum bh_code
check_use(struct bh_str text, struct bh_error *err)
{
    if (bh_str_is(text, "job"))
        return BH_OK;
    return bh_fail(err, BH_E_INVALID, "must be job where it is given");
}

static const struct bh_field rows[] = {
    {.name = "tenant",
        .kind = BH_FIELD_STRING,
        .required = true,
        .max = BH_BODY_MAX,
        .offset = offsetof(struct order, tenant)},
    {.name = "sub",
        .kind = BH_FIELD_STRING,
        .min = 1,
        .max = BH_TOKEN_SUB_MAX,
        .offset = offsetof(struct order, sub),
        .rule = check_sub},
    {.name = "use",
        .kind = BH_FIELD_STRING,
        .max = BH_BODY_MAX,
        .offset = offsetof(struct order, use),
        .rule = check_use},
    {.name = "ttl_seconds",
        .kind = BH_FIELD_INT,
        .min = 1,
        .max = BH_USERTOKEN_LIFE_MAX_S,
        .offset = offsetof(struct order, ttl_s)},
};
static const struct bh_fields fields = {rows, sizeof(rows) / sizeof(rows[0])};

static bool
is_job(const struct order *order)
{
    return order->use.len > 0;
}

static enum bh_code
read_order(struct bh_request *request, struct order *order, struct bh_error *err)
{
    struct bh_issues *issues = &request->issues;

    *order = (struct order){.ttl_s = BH_USERTOKEN_LIFE_S};
    bh_fields_read(&fields, request->json, order, issues);
    if (bh_json_get(request->json, "sub") == NULL) {
        if (is_job(order))
            order->sub = BH_STR("operator");
        else if (request->json->kind == BH_JSON_OBJECT)
            (void)bh_issues_add(issues, BH_ISSUE_MISSING, NULL, "/sub", "is required");
    }
    if (is_job(order) && order->ttl_s > BH_TOKEN_JOB_LIFE_S)
        (void)bh_issues_add(issues, BH_ISSUE_VALUE, bh_json_get(request->json, "ttl_seconds"),
            "/ttl_seconds", "must be at most 3600 for a job token");
    return bh_issues_code(issues, err);
}

/* The order's tenant, which must be there (422) and active (409). */
static enum bh_code
find_tenant(struct bh_request *request, const struct order *order, struct bh_tenant *tenant,
    struct bh_error *err)
{
    enum bh_code code = BH_E_NOT_FOUND;
    const char *id = bh_text(request, order->tenant);

    if (id == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    if (bh_tenant_id_check(order->tenant, NULL) == BH_OK)
        code = bh_tenant_get(request->db, request->arena, id, tenant, err);
    if (code == BH_E_NOT_FOUND)
        return bh_fail_at(err, BH_E_INVALID, "/tenant", "names no tenant");
    BH_TRY(code);
    if (strcmp(tenant->state, bh_tenant_state_name(BH_TENANT_ACTIVE)) == 0)
        return BH_OK;
    (void)bh_fail(err, BH_E_CONFLICT, "tenant %s is %s", id, tenant->state);
    if (tenant->operation != NULL)
        return bh_hint(err, "operation %s is at work on it", tenant->operation);
    return bh_hint(err, "only an active tenant has tokens");
}

/* The newest epoch that is valid now, or NULL. */
static const struct bh_key_epoch *
valid_epoch(const struct bh_key_epoch *epochs, size_t count, int64_t now_s)
{
    for (size_t i = 0; i < count; i++)
        if (epochs[i].not_before_s <= now_s && now_s < epochs[i].not_after_s)
            return &epochs[i];
    return NULL;
}

static enum bh_code
no_epoch(struct bh_error *err, const char *owner)
{
    return bh_fail(err, BH_E_INTERNAL, "no key epoch of %s is valid now", owner);
}

/* Key of one tenant, its epoch and the cell's key epoch. */
static enum bh_code
user_key(const struct bh_request *request, const struct bh_cell_keys *keys,
    const struct bh_usertoken_kid *kid, const char *uid_text, struct bh_key *ret_key,
    struct bh_error *err)
{
    struct bh_key cell_key;
    struct bh_uid uid;
    enum bh_code code;

    if (!bh_uid_parse(bh_str_of(uid_text), &uid))
        return bh_fail(err, BH_E_INTERNAL, "the registry holds a uid that is none");
    code = bh_key_cell_user(
        request->config->master, &keys->install, &keys->cell, kid->key_epoch, &cell_key, err);
    if (code == BH_OK)
        code = bh_key_tenant_user(&cell_key, &uid, kid->tenant_epoch, ret_key, err);
    bh_wipe(&cell_key, sizeof(cell_key));
    return code;
}

static enum bh_code
sign_user(struct bh_request *request, const struct bh_tenant *tenant,
    const struct bh_usertoken *claims_in, const struct bh_cell_keys *keys, struct bh_buf *out,
    struct bh_error *err)
{
    const struct bh_key_epoch *epoch = valid_epoch(keys->users, keys->user_count, claims_in->iat_s);
    struct bh_usertoken claims = *claims_in;
    char install[BH_UID_TEXT];
    struct bh_mac *mac = NULL;
    struct bh_key key;
    enum bh_code code;

    if (epoch == NULL)
        return no_epoch(err, "the cell");
    bh_uid_format(&keys->install, install);
    claims.audience = bh_str_of(install);
    claims.kid =
        (struct bh_usertoken_kid){tenant->no, (uint32_t)tenant->epoch, (uint32_t)epoch->epoch};
    code = user_key(request, keys, &claims.kid, tenant->uid, &key, err);
    if (code == BH_OK)
        code = bh_mac_new(&key, &mac, err);
    if (code == BH_OK)
        code = bh_usertoken_sign(mac, &claims, out, err);
    bh_mac_free(mac);
    bh_wipe(&key, sizeof(key));
    return code;
}

/* Key of one database on server ${index} of the cell. */
static enum bh_code
database_key(const struct bh_request *request, const struct bh_cell_keys *keys, size_t index,
    const struct bh_key_epoch *epoch, struct bh_str database, struct bh_key *ret_key,
    struct bh_error *err)
{
    struct bh_key server_key;
    enum bh_code code = bh_key_server(request->config->master, &keys->install,
        &keys->servers[index].uid, (uint32_t)epoch->epoch, &server_key, err);

    if (code == BH_OK)
        code = bh_key_database(&server_key, database, ret_key, err);
    bh_wipe(&server_key, sizeof(server_key));
    return code;
}

static enum bh_code
sign_job(struct bh_request *request, const struct bh_token *claims, const struct bh_cell_keys *keys,
    struct bh_buf *out, struct bh_error *err)
{
    const struct bh_key_epoch *epoch = NULL;
    struct bh_mac *mac = NULL;
    struct bh_key key;
    char kid[BH_KID_MAX];
    struct bh_buf kid_buf;
    enum bh_code code;
    size_t i;

    for (i = 0; i < keys->server_count; i++)
        if (bh_str_is(claims->server, keys->servers[i].name))
            break;
    if (i < keys->server_count)
        epoch = valid_epoch(keys->servers[i].keys, keys->servers[i].key_count, claims->iat_s);
    if (epoch == NULL)
        return no_epoch(err, "the tenant's server");
    bh_buf_init(&kid_buf, kid, sizeof(kid));
    bh_buf_printf(&kid_buf, "%s.%d", keys->servers[i].name, (int)epoch->epoch);
    code = database_key(request, keys, i, epoch, claims->database, &key, err);
    if (code == BH_OK)
        code = bh_mac_new(&key, &mac, err);
    if (code == BH_OK)
        code = bh_token_sign(mac, bh_buf_str(&kid_buf), claims, out, err);
    bh_mac_free(mac);
    bh_wipe(&key, sizeof(key));
    return code;
}

static enum bh_code
sign(struct bh_request *request, const struct order *order, const struct bh_tenant *tenant,
    int64_t now_s, struct bh_buf *out, struct bh_error *err)
{
    struct bh_cell_keys *keys = bh_arena_zalloc(request->arena, sizeof(*keys));

    if (keys == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    BH_TRY(bh_cell_keys_get(request->db, request->arena, tenant->cell, keys, err));
    if (!is_job(order)) {
        const struct bh_usertoken claims = {.tenant = bh_str_of(tenant->id),
            .issuer = BH_STR("bulkhead"),
            .sub = order->sub,
            .iat_s = now_s,
            .exp_s = now_s + order->ttl_s,
            .nbf_s = now_s};
        return sign_user(request, tenant, &claims, keys, out, err);
    }
    if (tenant->server == NULL || tenant->database == NULL)
        return bh_fail(err, BH_E_CONFLICT, "tenant %s has no database yet", tenant->id);
    const struct bh_token claims = {.server = bh_str_of(tenant->server),
        .database = bh_str_of(tenant->database),
        .iat_s = now_s,
        .exp_s = now_s + order->ttl_s,
        .no = tenant->no,
        .scope = BH_STR(""),
        .sub = order->sub,
        .tenant = bh_str_of(tenant->id),
        .use = BH_TOKEN_JOB,
        .epoch = (uint32_t)tenant->epoch};
    return sign_job(request, &claims, keys, out, err);
}

BH_HANDLER(bh_tokens_post)
{
    struct bh_writer w = {.buf = &reply->body};
    struct order order;
    struct bh_tenant tenant;
    int64_t now_s = time(NULL);
    struct bh_buf token;
    char storage[BH_USERTOKEN_MAX + 1];
    enum bh_code code;

    BH_TRY(read_order(request, &order, err));
    BH_TRY(find_tenant(request, &order, &tenant, err));
    bh_buf_init(&token, storage, sizeof(storage));
    code = sign(request, &order, &tenant, now_s, &token, err);
    if (code == BH_OK && !bh_buf_ok(&token))
        code = bh_fail(err, BH_E_TOO_LARGE, "the token would be too long");
    if (code == BH_OK) {
        reply->status = 201;
        reply->secret = true;
        bh_write_open(&w, NULL, '{');
        bh_write_str(&w, "token", bh_buf_str(&token));
        bh_write_time(&w, "expires_at", (now_s + order.ttl_s) * 1000000);
        bh_write_close(&w, '}');
    }
    bh_wipe(storage, sizeof(storage));
    return code;
}
