/*
 * Talking to the control plane: one connection per thread, bearer token in a
 * header (never in a URL), no proxy, answers with a limit.
 */
#ifndef BH_AGENT_HTTP_H
#define BH_AGENT_HTTP_H

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/error.h"
#include "core/str.h"

#define BH_HTTP_BODY_MAX ((size_t)1 << 20)

struct bh_http;

/**
 * bh_http_new(url, token, ret_http, err) / bh_http_free(http):
 * A client of ${url} ("http://127.0.0.1:7070", no slash at the end) that shows
 * ${token} (NULL: none).  Copies both; free wipes the token.
 */
enum bh_code bh_http_new(const char *url, const char *token, struct bh_http **ret_http,
    struct bh_error *err) BH_MUSTCHECK;
void bh_http_free(struct bh_http *http);

/**
 * bh_http_send(http, call, err):
 * Send one request and wait for its answer; its body is JSON (NULL: none).  Any HTTP
 * status is BH_OK; BH_E_UNAVAILABLE where no answer came.
 */
struct bh_http_call {
    const char *method;
    const char *path;
    const struct bh_str *body;
    long timeout_ms; /* 0: 10 s */
    struct bh_arena *arena;
    long status;          /* filled: HTTP status */
    struct bh_str answer; /* filled: body of the answer, in ${arena} */
};
enum bh_code bh_http_send(
    struct bh_http *http, struct bh_http_call *call, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_http_stream(http, stream, err):
 * GET and hand the bytes of a 200 answer to ${visit} as they come, until it
 * ends (BH_OK), ${visit} fails (passed on), nothing came for ${silence_ms}
 * (BH_E_TIMEOUT) or the connection broke (BH_E_UNAVAILABLE).  Another status:
 * BH_OK, body dropped.
 */
struct bh_http_stream {
    const char *path;
    int64_t silence_ms;
    enum bh_code (*visit)(void *arg, const char *data, size_t len, struct bh_error *err);
    void *arg;
    long status; /* filled */
};
enum bh_code bh_http_stream(
    struct bh_http *http, struct bh_http_stream *stream, struct bh_error *err) BH_MUSTCHECK;

#endif
