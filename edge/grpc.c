/* Calls of gRPC (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). */
#include "edge/edge.h"

static const ngx_str_t type = ngx_string("application/grpc");

bool
bh_edge_grpc_asked(ngx_http_request_t *r)
{
    ngx_uint_t count;
    if (r->http_version != NGX_HTTP_VERSION_20 || r->method != NGX_HTTP_POST) {
        return false;
    }
    ngx_str_t value = bh_edge_header_only(&r->headers_in.headers, "Content-Type", &count);
    if (count != 1 || value.len < type.len ||
        ngx_strncasecmp(value.data, type.data, type.len) != 0) {
        return false;
    }
    /* "+proto", "; charset", but not "-web", which is plain HTTP. */
    return value.len == type.len || value.data[type.len] == '+' || value.data[type.len] == ';';
}
