/* What people see of a tenant that is under maintenance (its policy says so). */
#include "edge/edge.h"

#include "core/buf.h"

#define PAGE_MAX 512 /* without the message */

const char *
bh_edge_maintenance_message(ngx_http_request_t *r, const struct bh_edge_ctx *ctx)
{
    struct bh_str message =
        ctx->tenant.policy == NULL ? BH_STR("") : ctx->tenant.policy->policy.maintenance_message;
    u_char *text = message.len == 0 ? NULL : ngx_pnalloc(r->pool, message.len + 1);
    if (text != NULL) {
        *ngx_cpymem(text, message.data, message.len) = '\0';
    }
    return (const char *)text;
}

bool
bh_edge_maintenance_retry(ngx_http_request_t *r, const struct bh_edge_ctx *ctx)
{
    int64_t seconds =
        ctx->tenant.policy == NULL ? 0 : ctx->tenant.policy->policy.maintenance_retry_s;
    if (seconds < 1 || seconds > UINT32_MAX) {
        return true;
    }
    u_char *text = ngx_pnalloc(r->pool, NGX_INT32_LEN);
    if (text == NULL) {
        return false;
    }
    ngx_str_t value = {(size_t)(bh_edge_digits(text, (uint32_t)seconds) - text), text};
    return bh_edge_header_out(r, "Retry-After", value) != NULL;
}

/* ---- does the client read HTML? ---- */

static struct bh_str
trim(struct bh_str s)
{
    while (s.len > 0 && (s.data[0] == ' ' || s.data[0] == '\t')) {
        s.data++;
        s.len--;
    }
    while (s.len > 0 && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t')) {
        s.len--;
    }
    return s;
}

/* "q=0", "q=0.0" …: not at all (RFC 9110 section 12.4.2). */
static bool
is_nothing(struct bh_str parameter)
{
    struct bh_str name, value;
    if (!bh_str_cut(parameter, '=', &name, &value) || !bh_str_eq_nocase(trim(name), BH_STR("q"))) {
        return false;
    }
    value = trim(value);
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] != '0' && value.data[i] != '.') {
            return false;
        }
    }
    return value.len > 0;
}

static bool
is_html(struct bh_str item)
{
    struct bh_str type = item, rest = {item.data, 0};
    bool more = bh_str_cut(item, ';', &type, &rest);
    if (!bh_str_eq_nocase(trim(type), BH_STR("text/html"))) {
        return false;
    }
    while (more) {
        struct bh_str parameter = rest;
        more = bh_str_cut(rest, ';', &parameter, &rest);
        if (is_nothing(parameter)) {
            return false;
        }
    }
    return true;
}

bool
bh_edge_accepts_html(ngx_http_request_t *r)
{
    ngx_uint_t count;
    ngx_str_t accept = bh_edge_header_only(&r->headers_in.headers, "Accept", &count);
    struct bh_str rest = {(const char *)accept.data, accept.len};
    for (bool more = count == 1; more;) {
        struct bh_str item = rest;
        more = bh_str_cut(rest, ',', &item, &rest);
        if (is_html(item)) {
            return true;
        }
    }
    return false;
}

/* ---- the page ---- */

ngx_buf_t *
bh_edge_maintenance_page(ngx_http_request_t *r, const char *title, const char *message)
{
    size_t len = ngx_strlen(message);
    size_t escaped = len + ngx_escape_html(NULL, (u_char *)(uintptr_t)message, len);
    ngx_buf_t *page = ngx_create_temp_buf(r->pool, PAGE_MAX + escaped);
    if (page == NULL) {
        return NULL;
    }
    page->last = ngx_sprintf(page->pos,
        "<!DOCTYPE html>\n<html><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
        "content=\"width=device-width\"><title>%s</title></head>\n<body><h1>%s</h1>\n<p>",
        title, title);
    page->last = (u_char *)ngx_escape_html(page->last, (u_char *)(uintptr_t)message, len);
    page->last = ngx_cpymem(page->last, "</p></body></html>\n", 19);
    return page;
}
