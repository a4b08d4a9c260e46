/* Is the credential that a request shows good for its tenant? */
#include "edge/edge.h"

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

static bool
is_bearer(ngx_str_t value)
{
    return value.len > 7 && ngx_strncasecmp(value.data, (u_char *)"Bearer ", 7) == 0;
}

enum bh_code
bh_edge_bearer(ngx_http_request_t *r, struct bh_edge_ctx *ctx, struct bh_str *ret_token)
{
    *ret_token = BH_STR("");
    if (ctx->authorizations > 1) {
        return BH_E_BAD_REQUEST;
    }
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
    *ret_token = (struct bh_str){(const char *)value.data + start, value.len - start};
    return ret_token->len > 0 ? BH_OK : BH_E_TOKEN_INVALID;
}

/* The tenant that the kid names, with the epoch it has now: the door's own, or one looked up. */
static bool
issuer_of(const struct bh_edge_ctx *ctx, int32_t no, struct bh_record *ret_record)
{
    if (no == ctx->tenant.record.no) {
        *ret_record = ctx->tenant.record;
        return true;
    }
    bool found = false;
    if (bh_snapshot_begin(bh_edge.snapshot, NULL) == BH_OK) {
        found = bh_snapshot_find(bh_edge.snapshot, no, ret_record);
        bh_snapshot_end(bh_edge.snapshot);
    }
    return found;
}

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
    if (cell == NULL || !issuer_of(ctx, kid->no, &issuer) || issuer.epoch != kid->tenant_epoch) {
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

enum bh_code
bh_edge_verify(ngx_http_request_t *r, struct bh_edge_ctx *ctx, struct bh_str token,
    struct bh_edge_verdict *ret_verdict)
{
    if (token.len > BH_USERTOKEN_MAX) {
        return BH_E_TOKEN_INVALID;
    }
    struct bh_arena arena = bh_edge_arena(r);
    struct bh_usertoken parsed;
    BH_TRY(bh_usertoken_parse(token, &arena, &parsed, NULL));
    struct bh_usertoken_door door = {
        .install = bh_str_of(bh_edge.install),
        .tenant = {ctx->tenant.id, ctx->tenant.id_len},
        .no = ctx->tenant.record.no,
        .tenant_epoch = ctx->tenant.record.epoch,
        .now_s = ngx_time(),
    };
    BH_TRY(bh_usertoken_check(&parsed, keyed(ctx, &parsed.kid), &door, NULL));
    /* What goes into the tenant token must fit its alphabet. */
    if (!bh_token_word_valid(parsed.sub) || !bh_token_scope_valid(parsed.scope)) {
        return BH_E_TOKEN_INVALID;
    }
    int64_t until = parsed.exp_s + BH_TOKEN_LEEWAY_S;
    int64_t end = key_end(parsed.kid.key_epoch);
    *ret_verdict = (struct bh_edge_verdict){
        .sub = parsed.sub, .scope = parsed.scope, .until_s = until < end ? until : end};
    return BH_OK;
}
