/* Which credential a request shows, and whether it is good for its tenant. */
#include "edge/edge.h"

#include "core/apikey.h"
#include "core/buf.h"
#include "core/codec.h"
#include "core/token.h"
#include "core/usertoken.h"

static bool
same_path(ngx_str_t path, ngx_str_t wanted)
{
    return path.len == wanted.len && ngx_memcmp(path.data, wanted.data, wanted.len) == 0;
}

/*
 * The normalised path must be one of the list, and the raw one the same where
 * the application is given it: it may read `/orders/..` in its own way.
 */
bool
bh_edge_is_anonymous(
    ngx_http_request_t *r, const struct bh_edge_ctx *ctx, const struct bh_edge_server *conf)
{
    ngx_str_t *paths = conf->anonymous_paths == NULL ? NULL : conf->anonymous_paths->elts;
    ngx_uint_t count = paths == NULL ? 0 : conf->anonymous_paths->nelts;
    ngx_str_t raw = r->unparsed_uri;
    u_char *query = raw.len == 0 ? NULL : memchr(raw.data, '?', raw.len);
    if (query != NULL) {
        raw.len = (size_t)(query - raw.data);
    }
    for (ngx_uint_t i = 0; i < count; i++) {
        if (same_path(r->uri, paths[i]) && (ctx->prefix.len > 0 || same_path(raw, paths[i]))) {
            return true;
        }
    }
    return false;
}

/* ---- what is shown ---- */

static bool
is_bearer(ngx_str_t value)
{
    return value.len > 7 && (ngx_memcmp(value.data, "Bearer ", 7) == 0 ||
                                ngx_strncasecmp(value.data, (u_char *)"Bearer ", 7) == 0);
}

static enum bh_code
bearer(ngx_http_request_t *r, const struct bh_edge_ctx *ctx, struct bh_str *ret_credential)
{
    if (ctx->authorizations == 0 || r->headers_in.authorization == NULL) {
        return ctx->anonymous ? BH_OK : BH_E_CREDENTIAL_MISSING;
    }
    ngx_str_t value = r->headers_in.authorization->value;
    if (!is_bearer(value)) {
        return BH_E_TOKEN_INVALID;
    }
    size_t start = 7;
    while (start < value.len && value.data[start] == ' ') {
        start++;
    }
    *ret_credential = (struct bh_str){(const char *)value.data + start, value.len - start};
    return ret_credential->len > 0 ? BH_OK : BH_E_TOKEN_INVALID;
}

enum bh_code
bh_edge_credential(ngx_http_request_t *r, struct bh_edge_ctx *ctx, struct bh_str *ret_credential,
    const char **ret_reason)
{
    *ret_credential = BH_STR("");
    if (ctx->tenant.policy->policy.auth == BH_AUTH_APP) {
        return BH_OK;
    }
    /* Any other X-API-Key is the application's own. */
    bool key = ctx->api_key_marked;
    if (ctx->authorizations + (key ? ctx->api_keys : 0U) > 1) {
        *ret_reason = "the request shows more than one credential";
        return BH_E_BAD_REQUEST;
    }
    if (!key) {
        return bearer(r, ctx, ret_credential);
    }
    ctx->by_key = 1;
    *ret_credential = (struct bh_str){(const char *)ctx->api_key.data, ctx->api_key.len};
    if (!bh_apikey_valid(*ret_credential)) {
        *ret_reason = "X-API-Key holds no key of the form bhk_<prefix>_<secret>";
        return BH_E_TOKEN_INVALID;
    }
    return BH_OK;
}

/* ---- what every kind of credential needs ---- */

struct check {
    ngx_http_request_t *r;
    const struct bh_edge_ctx *ctx;
    const struct bh_policy *policy;
    struct bh_str text;
    struct bh_arena arena; /* of the request */
    struct bh_error err;
};

static struct bh_str
copy_of(struct check *check, const char *text)
{
    char *copy = bh_arena_strdup(&check->arena, text);
    return copy == NULL ? BH_STR("") : bh_str_of(copy);
}

/* The record of the tenant of that number: the door's own, or one looked up. */
static bool
record_of(const struct bh_edge_ctx *ctx, int64_t no, struct bh_record *ret_record)
{
    if (no == ctx->tenant.record.no) {
        *ret_record = ctx->tenant.record;
        return true;
    }
    bool found = false;
    if (no > 0 && no <= INT32_MAX && bh_snapshot_begin(bh_edge.snapshot, NULL) == BH_OK) {
        found = bh_snapshot_find(bh_edge.snapshot, (int32_t)no, ret_record);
        bh_snapshot_end(bh_edge.snapshot);
    }
    return found;
}

static bool
is_named(const struct bh_policy *policy, struct bh_str role)
{
    for (size_t i = 0; i < policy->route_count; i++) {
        if (bh_words_have(&policy->routes[i].roles, role)) {
            return true;
        }
    }
    return false;
}

/* Only the roles that a route of the policy asks for: no other can ever matter. */
static bool
join_roles(struct check *check, struct bh_str *ret_roles, const struct bh_words *roles)
{
    struct bh_buf out;
    bh_buf_init_arena(&out, &check->arena, BH_EDGE_ROLES_MAX + 1);
    for (size_t i = 0; i < roles->count; i++) {
        if (is_named(check->policy, roles->items[i])) {
            bh_buf_puts(&out, out.len == 0 ? "" : " ");
            bh_buf_str_add(&out, roles->items[i]);
        }
    }
    *ret_roles = out.len == 0 ? BH_STR("") : bh_buf_str(&out);
    return bh_buf_ok(&out);
}

static enum bh_code
take_roles(struct check *check, const struct bh_words *roles, struct bh_edge_verdict *verdict)
{
    return join_roles(check, &verdict->roles, roles)
               ? BH_OK
               : bh_fail(&check->err, BH_E_TOKEN_INVALID,
                     "it has more roles of the tenant's routes than 1024 bytes hold");
}

/* ---- user tokens of the platform ---- */

/* The second from which the user key of that epoch counts no more. */
static int64_t
key_end(uint32_t epoch)
{
    for (size_t i = 0; i < bh_edge.keyring->user_count; i++) {
        if (bh_edge.keyring->users[i].epoch == epoch) {
            return bh_edge.keyring->users[i].not_after_s;
        }
    }
    return 0;
}

/* Key the worker's MAC with the user key that the kid names; NULL where there is none now. */
static struct bh_mac *
keyed(const struct bh_edge_ctx *ctx, const struct bh_usertoken_kid *kid)
{
    struct bh_record issuer;
    const struct bh_key *cell = bh_keyring_user(bh_edge.keyring, kid->key_epoch, ngx_time());
    if (cell == NULL || !record_of(ctx, kid->no, &issuer) || issuer.epoch != kid->tenant_epoch) {
        return NULL;
    }
    struct bh_key key;
    enum bh_code code = bh_key_tenant_user(cell, &issuer.uid, kid->tenant_epoch, &key, NULL);
    if (code == BH_OK) {
        code = bh_mac_rekey(bh_edge.mac, &key, NULL);
    }
    bh_wipe(&key, sizeof(key));
    return code == BH_OK ? bh_edge.mac : NULL;
}

static enum bh_code
check_user(
    struct check *check, const struct bh_usertoken *parsed, struct bh_edge_verdict *ret_verdict)
{
    const struct bh_edge_ctx *ctx = check->ctx;
    struct bh_usertoken_door door = {
        .install = bh_str_of(bh_edge.install),
        .tenant = {ctx->tenant.id, ctx->tenant.id_len},
        .no = ctx->tenant.record.no,
        .tenant_epoch = ctx->tenant.record.epoch,
        .now_s = ngx_time(),
    };
    BH_TRY(bh_usertoken_check(parsed, keyed(ctx, &parsed->kid), &door, &check->err));
    /* What goes into the tenant token must fit its alphabet. */
    if (!bh_token_word_valid(parsed->sub) || !bh_token_scope_valid(parsed->scope)) {
        return BH_E_TOKEN_INVALID;
    }
    int64_t until = parsed->exp_s + BH_TOKEN_LEEWAY_S;
    int64_t end = key_end(parsed->kid.key_epoch);
    *ret_verdict = (struct bh_edge_verdict){
        .sub = parsed->sub, .scope = parsed->scope, .until_s = until < end ? until : end};
    struct bh_words roles = bh_words_of(parsed->roles, &check->arena);
    return take_roles(check, &roles, ret_verdict);
}

/* ---- tokens of issuers ---- */

/* Of several answers of issuers with the same name, the one that says most. */
static enum bh_code
better(enum bh_code one, enum bh_code other)
{
    return one == BH_E_TOKEN_INVALID ? other : one;
}

static enum bh_code
believe(struct check *check, const struct bh_issuer *issuer, const struct bh_jwt *jwt,
    struct bh_edge_verdict *verdict)
{
    struct bh_person person;
    struct bh_issuer_door door = {
        .tenant = {check->ctx->tenant.id, check->ctx->tenant.id_len}, .now_s = ngx_time()};
    BH_TRY(bh_issuer_check(issuer, jwt, &door, &check->arena, &person, &check->err));
    verdict->sub = person.sub;
    verdict->scope = person.scope;
    verdict->until_s = person.until_s;
    return take_roles(check, &person.roles, verdict);
}

/* Ask each issuer that the policy names and whose name the token says; between begin and end. */
static enum bh_code
ask_issuers(struct check *check, const struct bh_jwt *jwt, struct bh_edge_verdict *verdict)
{
    enum bh_code code = BH_E_TOKEN_INVALID;
    bool missing = false;
    bool asked = false;
    for (size_t i = 0; i < check->policy->issuers.count; i++) {
        char name[BH_EDGE_SOURCE_MAX + 1];
        struct bh_buf full;
        bh_buf_init(&full, name, sizeof(name));
        bh_buf_puts(&full, "issuer/");
        bh_buf_str_add(&full, check->policy->issuers.items[i]);
        const struct bh_issuer *issuer =
            bh_edge_issuer(bh_buf_str(&full), &verdict->source_print, check->r->connection->log);
        missing = missing || issuer == NULL;
        if (issuer == NULL || !bh_str_eq(issuer->issuer, jwt->issuer)) {
            continue;
        }
        asked = true;
        code = better(code, believe(check, issuer, jwt, verdict));
        if (code == BH_OK) {
            verdict->source = copy_of(check, name);
            return verdict->source.len > 0 ? BH_OK : BH_E_NO_MEMORY;
        }
    }
    if (!asked && missing) {
        return bh_fail(&check->err, BH_E_NOT_READY,
            "an issuer of the tenant is not known to the edge yet, or cannot be read");
    }
    if (!asked) {
        (void)bh_fail(&check->err, BH_E_TOKEN_INVALID, "the tenant trusts no issuer of that name");
    }
    return code;
}

static enum bh_code
check_jwt(struct check *check, struct bh_edge_verdict *ret_verdict)
{
    struct bh_jwt jwt;
    BH_TRY(bh_jwt_parse(check->text, &check->arena, &jwt, &check->err));
    if (bh_edge_refused_before(check->ctx, check->text)) {
        return bh_fail(&check->err, BH_E_TOKEN_INVALID, "it was refused a moment ago");
    }
    BH_TRY(bh_snapshot_begin(bh_edge.snapshot, &check->err));
    struct bh_edge_verdict verdict = {.until_s = 0};
    enum bh_code code = ask_issuers(check, &jwt, &verdict);
    bh_snapshot_end(bh_edge.snapshot);
    if (code == BH_OK) {
        *ret_verdict = verdict;
    } else if (code == BH_E_TOKEN_INVALID) {
        bh_edge_refused_remember(check->ctx, check->text);
    }
    return code;
}

static enum bh_code
check_token(struct check *check, struct bh_edge_verdict *ret_verdict)
{
    struct bh_usertoken parsed;
    if (check->policy->user_tokens && check->text.len <= BH_USERTOKEN_MAX &&
        bh_usertoken_parse(check->text, &check->arena, &parsed, &check->err) == BH_OK) {
        return check_user(check, &parsed, ret_verdict);
    }
    if (check->policy->issuers.count > 0) {
        return check_jwt(check, ret_verdict);
    }
    return check->policy->user_tokens ? BH_E_TOKEN_INVALID
                                      : bh_fail(&check->err, BH_E_TOKEN_INVALID,
                                            "the tenant accepts no user tokens of the platform");
}

/* ---- API keys ---- */

static enum bh_code
name_key(struct check *check, char ret_name[BH_APIKEY_NAME])
{
    uint8_t digest[BH_APIKEY_DIGEST_BYTES];
    if (!bh_edge.keyring->has_hash) {
        return bh_fail(&check->err, BH_E_NOT_READY, "the keyring has no key to find API keys with");
    }
    BH_TRY(bh_apikey_digest(check->text, digest, &check->err));
    BH_TRY(bh_mac_rekey(bh_edge.mac, &bh_edge.keyring->hash, &check->err));
    return bh_apikey_name(bh_edge.mac, digest, ret_name, &check->err);
}

/* Its document, copied: BH_E_TOKEN_INVALID where there is none. */
static enum bh_code
find_key(struct check *check, const char *name, struct bh_apikey *ret_key, uint64_t *ret_print)
{
    struct bh_document document;
    struct bh_str body = BH_STR("");
    BH_TRY(bh_snapshot_begin(bh_edge.snapshot, &check->err));
    bool found = bh_snapshot_document(bh_edge.snapshot, bh_str_of(name), &document);
    if (found) {
        *ret_print = bh_edge_print(document.body);
        body.data = bh_arena_strndup(&check->arena, document.body.data, document.body.len);
        body.len = document.body.len;
    }
    bh_snapshot_end(bh_edge.snapshot);
    if (!found) {
        return bh_fail(&check->err, BH_E_TOKEN_INVALID, "there is no such API key");
    }
    if (body.data == NULL) {
        return BH_E_NO_MEMORY;
    }
    struct bh_error err = {.code = BH_OK};
    if (bh_apikey_parse(body, &check->arena, ret_key, &err) != BH_OK) {
        ngx_log_error(NGX_LOG_ERR, check->r->connection->log, 0,
            "bulkhead: %s: %s at \"%s\": the key is not accepted", name, err.detail, err.pointer);
        return bh_fail(&check->err, BH_E_NOT_READY, "the edge cannot read what the key is for");
    }
    return BH_OK;
}

/* A key of another tenant tells so only where that tenant would take it. */
static enum bh_code
check_owner(struct check *check, const struct bh_apikey *key)
{
    struct bh_record owner;
    bool expired = key->not_after_s > 0 && key->not_after_s <= ngx_time();
    bool other = key->no != check->ctx->tenant.record.no;
    if (!record_of(check->ctx, key->no, &owner) ||
        (key->epoch >= 0 && (uint32_t)key->epoch != owner.epoch) || (other && expired)) {
        return bh_fail(&check->err, BH_E_TOKEN_INVALID, "the API key is revoked");
    }
    if (other) {
        return bh_fail(&check->err, BH_E_TOKEN_TENANT_MISMATCH, "the API key is of another tenant");
    }
    return expired ? bh_fail(&check->err, BH_E_TOKEN_EXPIRED, "the API key has expired") : BH_OK;
}

static enum bh_code
check_key(struct check *check, struct bh_edge_verdict *ret_verdict)
{
    char name[BH_APIKEY_NAME];
    struct bh_apikey key;
    if (!check->policy->api_keys) {
        return bh_fail(&check->err, BH_E_TOKEN_INVALID, "the tenant accepts no API keys");
    }
    if (!bh_apikey_valid(check->text)) {
        return bh_fail(&check->err, BH_E_TOKEN_INVALID, "the API key is malformed");
    }
    struct bh_edge_verdict verdict = {.until_s = INT64_MAX};
    BH_TRY(name_key(check, name));
    BH_TRY(find_key(check, name, &key, &verdict.source_print));
    BH_TRY(check_owner(check, &key));
    verdict.sub = key.sub;
    verdict.scope = key.scope;
    verdict.source = copy_of(check, name);
    if (key.not_after_s > 0) {
        verdict.until_s = key.not_after_s;
    }
    BH_TRY(take_roles(check, &key.roles, &verdict));
    *ret_verdict = verdict;
    return verdict.source.len > 0 ? BH_OK : BH_E_NO_MEMORY;
}

enum bh_code
bh_edge_verify(ngx_http_request_t *r, const struct bh_edge_ctx *ctx, struct bh_str credential,
    struct bh_edge_verdict *ret_verdict, const char **ret_reason)
{
    struct check check = {.r = r,
        .ctx = ctx,
        .policy = &ctx->tenant.policy->policy,
        .text = credential,
        .arena = bh_edge_arena(r),
        .err = {.code = BH_OK}};
    enum bh_code code = bh_str_starts(credential, BH_APIKEY_MARK)
                            ? check_key(&check, ret_verdict)
                            : check_token(&check, ret_verdict);
    if (code != BH_OK && check.err.code == code && check.err.detail[0] != '\0') {
        *ret_reason = copy_of(&check, check.err.detail).data;
    }
    return code;
}
