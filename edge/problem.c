/* Answers of the edge itself: RFC 9457 problem documents. */
#include "edge/edge.h"

#include "core/buf.h"

#define BODY_MAX 3072
#define QUOTA_TYPE "https://iana.org/assignments/http-problem-types#" /* of the draft */
#define TYPE "https://bulkhead.dev/errors/" /* as the API; doc/contract/edge.md */

static const struct wording {
    enum bh_code code;
    const char *detail;
    const char *hint;
} wordings[] = {
    {BH_E_TENANT_MISSING, "the request names no tenant", "use the host name of a tenant"},
    {BH_E_TENANT_CONFLICT, "request line, host, path and headers do not name the same tenant",
        "name one tenant, in one spelling"},
    {BH_E_TENANT_UNKNOWN, "no tenant is served under this name",
        "bulkhead tenant list shows the tenants and their URLs"},
    {BH_E_WRONG_CELL, "the tenant is served in another cell", "use the tenant's own host name"},
    {BH_E_TENANT_SUSPENDED, "the tenant is suspended and serves nobody",
        "ask the operator of this service"},
    {BH_E_CREDENTIAL_MISSING, "this path needs a credential",
        "send Authorization: Bearer with a token; bulkhead token <tenant> --user <sub> makes one"},
    {BH_E_TOKEN_INVALID, "the request holds no valid credential of this tenant",
        "bulkhead token <tenant> --user <sub> makes a new one"},
    {BH_E_TOKEN_EXPIRED, "the credential has expired",
        "bulkhead token <tenant> --user <sub> makes a new one"},
    {BH_E_TOKEN_TENANT_MISMATCH, "the credential is of another tenant",
        "use the host name of the tenant that the credential was made for"},
    {BH_E_NOT_PERMITTED, "the credential does not permit this", ""},
    {BH_E_TOO_LARGE, "the request body is larger than this route takes", "send less"},
    {BH_E_RATE_LIMITED, "the tenant has used up its requests for now",
        "wait for the seconds in Retry-After"},
    {BH_E_QUOTA_EXCEEDED, "a quota of the tenant is used up",
        "wait for the seconds in Retry-After"},
    {BH_E_NOT_READY, "the edge cannot serve this tenant yet", "try again in a moment"},
    {BH_E_MAINTENANCE, "the service is under maintenance", "try again later"},
    {BH_E_UPSTREAM_FAILED, "the application closed the connection or cannot be reached",
        "bulkhead status shows what runs"},
    {BH_E_UPSTREAM_TIMEOUT, "the application did not answer in time",
        "bulkhead status shows what runs"},
    {BH_E_BAD_REQUEST, "the request is malformed", ""},
};

/* What nginx itself answers, in our words: what it refuses is a bad request; the status stays. */
static const struct {
    ngx_uint_t status;
    enum bh_code code;
    const char *detail;
} nginx_errors[] = {
    {400, BH_E_BAD_REQUEST, NULL},
    {403, BH_E_NOT_PERMITTED, "the edge does not serve this"},
    {404, BH_E_BAD_REQUEST, "the edge does not serve this"},
    {405, BH_E_BAD_REQUEST, "the edge does not pass this method on"},
    {413, BH_E_BAD_REQUEST, "the request body is too large"},
    {414, BH_E_BAD_REQUEST, "the request line is too long"},
    {501, BH_E_BAD_REQUEST, "the edge does not know this transfer coding"},
    {502, BH_E_UPSTREAM_FAILED, NULL},
    {503, BH_E_NOT_READY, NULL},
    {504, BH_E_UPSTREAM_TIMEOUT, NULL},
    {505, BH_E_BAD_REQUEST, "the edge does not speak this version of HTTP"},
};

static const struct wording *
wording_of(enum bh_code code)
{
    static const struct wording none = {BH_E_INTERNAL, "the edge failed to serve the request", ""};
    for (size_t i = 0; i < sizeof(wordings) / sizeof(wordings[0]); i++) {
        if (wordings[i].code == code) {
            return &wordings[i];
        }
    }
    return &none;
}

static void
member(struct bh_buf *out, const char *name, const char *value)
{
    bh_buf_printf(out, ",\"%s\":", name);
    bh_buf_json(out, bh_str_of(value));
}

static ngx_buf_t *
make_body(ngx_http_request_t *r, struct bh_edge_ctx *ctx, ngx_uint_t status, enum bh_code code,
    const char *detail)
{
    const struct wording *wording = wording_of(code);
    detail = detail != NULL ? detail : wording->detail;
    if (code == BH_E_MAINTENANCE && bh_edge_accepts_html(r)) {
        return bh_edge_maintenance_page(r, bh_code_title(code), detail);
    }
    size_t room = BODY_MAX + 6 * ngx_strlen(detail); /* \u00xx each */
    ngx_buf_t *body = ngx_create_temp_buf(r->pool, room);
    if (body == NULL) {
        return NULL;
    }
    struct bh_buf out;
    bh_buf_init(&out, (char *)body->pos, room);
    bh_buf_printf(&out, "{\"type\":\"%s%s\"", code == BH_E_QUOTA_EXCEEDED ? QUOTA_TYPE : TYPE,
        bh_code_slug(code));
    member(&out, "title", bh_code_title(code));
    bh_buf_printf(&out, ",\"status\":%d", (int)status);
    member(&out, "detail", detail);
    member(&out, "code", bh_code_slug(code));
    if (wording->hint[0] != '\0') {
        member(&out, "hint", wording->hint);
    }
    if (ctx->violated.len > 0) {
        bh_buf_puts(&out, ",\"violated-policies\":");
        bh_buf_str_add(&out, ctx->violated);
    }
    bh_buf_printf(&out, ",\"request_id\":\"%.*s\"}\n", (int)sizeof(ctx->request_id),
        (const char *)ctx->request_id);
    if (!bh_buf_ok(&out)) {
        return NULL;
    }
    body->last = body->pos + out.len;
    return body;
}

static bool
add_headers(ngx_http_request_t *r, struct bh_edge_ctx *ctx, enum bh_code code)
{
    static const ngx_str_t no_store = ngx_string("no-store");
    static const ngx_str_t plain = ngx_string("Bearer");
    static const ngx_str_t refused = ngx_string("Bearer error=\"invalid_token\"");
    ngx_str_t id = {sizeof(ctx->request_id), ctx->request_id};
    if (bh_edge_header_out(r, "Cache-Control", no_store) == NULL ||
        bh_edge_header_out(r, "X-Request-Id", id) == NULL) {
        return false;
    }
    if (bh_code_http(code) == NGX_HTTP_UNAUTHORIZED) {
        r->headers_out.www_authenticate = bh_edge_header_out(
            r, "WWW-Authenticate", code == BH_E_CREDENTIAL_MISSING ? plain : refused);
        return r->headers_out.www_authenticate != NULL;
    }
    return code != BH_E_MAINTENANCE || bh_edge_maintenance_retry(r, ctx);
}

static ngx_int_t
send_body(ngx_http_request_t *r, ngx_uint_t status, ngx_buf_t *body)
{
    static const ngx_str_t problem = ngx_string("application/problem+json");
    static const ngx_str_t page = ngx_string("text/html; charset=utf-8");
    ngx_str_t type = *body->pos == '<' ? page : problem;
    body->last_buf = 1;
    body->last_in_chain = 1;
    r->headers_out.status = status;
    r->headers_out.content_type = type;
    r->headers_out.content_type_len = type.len;
    r->headers_out.content_length_n = body->last - body->pos;
    ngx_http_clear_last_modified(r);
    ngx_int_t rc = ngx_http_send_header(r);
    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }
    ngx_chain_t chain = {.buf = body, .next = NULL};
    return ngx_http_output_filter(r, &chain);
}

static ngx_int_t
answer(ngx_http_request_t *r, struct bh_edge_ctx *ctx, ngx_uint_t status, enum bh_code code,
    const char *detail)
{
    /* First: a body that cannot be read leads to another answer, without these headers. */
    ngx_int_t rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }
    ctx->code = code;
    if (code == BH_E_MAINTENANCE) {
        detail = bh_edge_maintenance_message(r, ctx);
    }
    ngx_buf_t *body = make_body(r, ctx, status, code, detail);
    if (body == NULL || !add_headers(r, ctx, code)) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    return send_body(r, status, body);
}

ngx_int_t
bh_edge_problem(
    ngx_http_request_t *r, struct bh_edge_ctx *ctx, enum bh_code code, const char *reason)
{
    ngx_http_finalize_request(r, answer(r, ctx, (ngx_uint_t)bh_code_http(code), code, reason));
    return NGX_DONE;
}

ngx_int_t
bh_edge_problem_handler(ngx_http_request_t *r)
{
    struct bh_edge_ctx *ctx = bh_edge_ctx_make(r);
    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }
    ngx_uint_t status = r->err_status != 0 ? r->err_status : NGX_HTTP_NOT_FOUND;
    enum bh_code code = status < 500 ? BH_E_BAD_REQUEST : BH_E_INTERNAL;
    const char *detail = NULL;
    for (size_t i = 0; i < sizeof(nginx_errors) / sizeof(nginx_errors[0]); i++) {
        if (nginx_errors[i].status == status) {
            code = nginx_errors[i].code;
            detail = nginx_errors[i].detail;
        }
    }
    if (ctx->too_large && status == NGX_HTTP_REQUEST_ENTITY_TOO_LARGE) {
        code = BH_E_TOO_LARGE;
        detail = NULL;
    }
    return answer(r, ctx, status, code, detail);
}
