/*
 * The one protocol that may take over a connection (RFC 6455).  What passes in
 * a tunnel is seen by nobody here, so it opens only where client and application
 * both proved that they mean it.
 */
#include "edge/edge.h"

#include <openssl/evp.h>

#define KEY_LEN 24    /* base64 of 16 bytes */
#define ACCEPT_LEN 28 /* base64 of a SHA-1 */
#define SHA1_LEN 20

static ngx_str_t
only(ngx_list_t *list, const char *name)
{
    ngx_uint_t count;
    return bh_edge_header_only(list, name, &count);
}

static bool
is_text(ngx_str_t value, const char *text)
{
    return value.data != NULL && value.len == ngx_strlen(text) &&
           ngx_strncasecmp(value.data, (u_char *)(uintptr_t)text, value.len) == 0;
}

/* Is ${token} one of the comma-separated words? */
static bool
has_token(ngx_str_t list, const char *token)
{
    u_char *end = list.data + list.len;
    for (u_char *p = list.data; p < end; p++) {
        ngx_str_t word = {0, p};
        while (p < end && *p != ',') {
            p++;
        }
        word.len = (size_t)(p - word.data);
        while (word.len > 0 && (*word.data == ' ' || *word.data == '\t')) {
            word.data++;
            word.len--;
        }
        while (
            word.len > 0 && (word.data[word.len - 1] == ' ' || word.data[word.len - 1] == '\t')) {
            word.len--;
        }
        if (is_text(word, token)) {
            return true;
        }
    }
    return false;
}

bool
bh_edge_websocket_asked(ngx_http_request_t *r)
{
    if (r->headers_in.upgrade == NULL || r->method != NGX_HTTP_GET ||
        r->http_version != NGX_HTTP_VERSION_11 || r->headers_in.content_length_n > 0 ||
        r->headers_in.chunked) {
        return false;
    }
    ngx_list_t *list = &r->headers_in.headers;
    ngx_str_t connection = only(list, "Connection");
    return is_text(only(list, "Upgrade"), "websocket") && has_token(connection, "upgrade") &&
           is_text(only(list, "Sec-WebSocket-Version"), "13") &&
           only(list, "Sec-WebSocket-Key").len == KEY_LEN;
}

/* RFC 6455 section 4.2.2, 5.4: what an application that understood the key answers. */
static bool
expected_accept(ngx_str_t key, u_char ret_accept[ACCEPT_LEN])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    u_char text[KEY_LEN + sizeof(guid) - 1];
    u_char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    ngx_memcpy(text, key.data, KEY_LEN);
    ngx_memcpy(text + KEY_LEN, guid, sizeof(guid) - 1);
    if (EVP_Digest(text, sizeof(text), digest, &len, EVP_sha1(), NULL) != 1 || len != SHA1_LEN) {
        return false;
    }
    ngx_str_t plain = {len, digest};
    ngx_str_t encoded = {0, ret_accept};
    ngx_encode_base64(&encoded, &plain);
    return encoded.len == ACCEPT_LEN;
}

bool
bh_edge_websocket_opens(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    u_char accept[ACCEPT_LEN];
    ngx_str_t key = only(&r->headers_in.headers, "Sec-WebSocket-Key");
    ngx_str_t answer = only(&r->headers_out.headers, "Sec-WebSocket-Accept");
    if (!ctx->websocket || r->upstream == NULL || r->upstream->peer.connection == NULL ||
        key.len != KEY_LEN || answer.len != ACCEPT_LEN || !expected_accept(key, accept) ||
        ngx_memcmp(answer.data, accept, ACCEPT_LEN) != 0) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
            "bulkhead: tenant %*s: 101 of the application answers no WebSocket handshake",
            ctx->tenant.id_len, ctx->tenant.id);
        return false;
    }
    ctx->upgraded = 1;
    ctx->sent_before = r->upstream->peer.connection->sent;
    return true;
}
