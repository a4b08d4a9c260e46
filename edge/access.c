/* What a request asks for by its tenant's policy, and whether its credential may. */
#include "edge/edge.h"

#include <stdarg.h>

#include "core/buf.h"
#include "core/path.h"

#define REASON_MAX 1400 /* all roles of a route with their longest names */

static struct bh_str
text_of(ngx_str_t text)
{
    return (struct bh_str){(const char *)text.data, text.len};
}

/*
 * A route says that a path needs no credential only where nobody reads that path
 * in another way than nginx did.
 */
static bool
is_open(ngx_http_request_t *r, const struct bh_edge_ctx *ctx, const struct bh_edge_server *conf)
{
    return bh_edge_is_anonymous(r, ctx, conf) ||
           (ctx->route != NULL && ctx->route->anonymous && bh_path_plain(text_of(r->unparsed_uri)));
}

enum bh_code
bh_edge_route(ngx_http_request_t *r, struct bh_edge_ctx *ctx, const struct bh_edge_server *conf,
    const char **ret_reason)
{
    const struct bh_policy *policy = &ctx->tenant.policy->policy;
    if (policy->route_count > 0) {
        if (!policy->encoded_paths && !bh_path_plain(text_of(r->unparsed_uri))) {
            *ret_reason = "the path can be read in two ways: it has an encoded / \\ . ; or %, or "
                          "// /../ \\ ; or #";
            return BH_E_BAD_REQUEST;
        }
        ctx->route = bh_policy_route(policy, text_of(r->method_name), text_of(ctx->path));
    }
    ctx->anonymous = is_open(r, ctx, conf);
    return BH_OK;
}

/* ---- may it? ---- */

static bool
has_word(struct bh_str words, struct bh_str word)
{
    struct bh_str head, rest = words;
    while (bh_str_cut(rest, ' ', &head, &rest)) {
        if (bh_str_eq(head, word)) {
            return true;
        }
    }
    return bh_str_eq(rest, word);
}

static const char *word_reason(ngx_http_request_t *r, const char *format, ...) BH_PRINTF(2, 3);

static const char *
word_reason(ngx_http_request_t *r, const char *format, ...)
{
    char *text = ngx_pnalloc(r->pool, REASON_MAX);
    if (text == NULL) {
        return NULL;
    }
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, REASON_MAX, format, args);
    va_end(args);
    return text;
}

/* RFC 6750 section 3.1: what a client that can ask for more has to ask for.  Only a hint: without
 * memory there is none. */
static void
say_scopes(ngx_http_request_t *r, const struct bh_route *route)
{
    struct bh_buf out;
    char *text = ngx_pnalloc(r->pool, REASON_MAX);
    if (text == NULL) {
        return;
    }
    bh_buf_init(&out, text, REASON_MAX);
    bh_buf_puts(&out, "Bearer error=\"insufficient_scope\", scope=\"");
    for (size_t i = 0; i < route->scopes.count; i++) {
        bh_buf_puts(&out, i == 0 ? "" : " ");
        bh_buf_str_add(&out, route->scopes.items[i]);
    }
    bh_buf_putc(&out, '"');
    if (bh_buf_ok(&out)) {
        (void)bh_edge_header_out(r, "WWW-Authenticate", (ngx_str_t){out.len, (u_char *)text});
    }
}

static enum bh_code
check_scopes(ngx_http_request_t *r, const struct bh_edge_ctx *ctx, const char **ret_reason)
{
    const struct bh_route *route = ctx->route;
    for (size_t i = 0; i < route->scopes.count; i++) {
        struct bh_str scope = route->scopes.items[i];
        if (!has_word(ctx->scope, scope)) {
            *ret_reason = word_reason(r,
                "route \"%.*s\" needs the scope \"%.*s\", which the credential does not grant",
                (int)route->name.len, route->name.data, (int)scope.len, scope.data);
            if (!ctx->observed) {
                say_scopes(r, route);
            }
            return BH_E_NOT_PERMITTED;
        }
    }
    return BH_OK;
}

static const char *
list_roles(ngx_http_request_t *r, const struct bh_route *route)
{
    char *text = ngx_pnalloc(r->pool, REASON_MAX);
    if (text == NULL) {
        return "";
    }
    struct bh_buf out;
    bh_buf_init(&out, text, REASON_MAX);
    for (size_t i = 0; i < route->roles.count; i++) {
        bh_buf_puts(&out, i == 0 ? "" : ", ");
        bh_buf_str_add(&out, route->roles.items[i]);
    }
    return bh_buf_ok(&out) ? text : "its list";
}

static enum bh_code
check_roles(ngx_http_request_t *r, const struct bh_edge_ctx *ctx, const char **ret_reason)
{
    const struct bh_route *route = ctx->route;
    for (size_t i = 0; i < route->roles.count; i++) {
        if (has_word(ctx->roles, route->roles.items[i])) {
            return BH_OK;
        }
    }
    if (route->roles.count == 0) {
        return BH_OK;
    }
    *ret_reason =
        word_reason(r, "route \"%.*s\" needs one of the roles %s, and the credential has none",
            (int)route->name.len, route->name.data, list_roles(r, route));
    return BH_E_NOT_PERMITTED;
}

/* What is known before the body is read; body.c watches the rest. */
static enum bh_code
check_body(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    if (ctx->route->max_body_bytes > 0 &&
        r->headers_in.content_length_n > ctx->route->max_body_bytes) {
        ctx->too_large = 1;
        return BH_E_TOO_LARGE;
    }
    return BH_OK;
}

enum bh_code
bh_edge_permit(ngx_http_request_t *r, struct bh_edge_ctx *ctx, const char **ret_reason)
{
    const struct bh_policy *policy = &ctx->tenant.policy->policy;
    const struct bh_route *route = ctx->route;
    if (ctx->overridden && policy->route_count > 0) {
        *ret_reason = "the request names another method in a header, which the tenant's routes "
                      "could not see";
        return BH_E_BAD_REQUEST;
    }
    if (route == NULL) {
        if (policy->unlisted_denied) {
            *ret_reason = "no route of the tenant's policy lists this method and path";
            return BH_E_NOT_PERMITTED;
        }
        return BH_OK;
    }
    if (route->scopes.count + route->roles.count > 0) {
        if (!ctx->believed && policy->auth == BH_AUTH_EDGE) {
            return BH_E_CREDENTIAL_MISSING;
        }
        BH_TRY(check_scopes(r, ctx, ret_reason));
        BH_TRY(check_roles(r, ctx, ret_reason));
    }
    return check_body(r, ctx);
}
