#include "agent/http.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/log.h"
#include "core/buf.h"
#include "core/codec.h"

#define URL_MAX 512
#define SEND_TIMEOUT_MS 10000L
#define CONNECT_TIMEOUT_MS 3000L

struct bh_http {
    CURL *curl;
    char *url;
    struct curl_slist *headers;
};

/* curl keeps its own copies of headers: they are wiped with the list. */
static void
free_headers(struct curl_slist *headers)
{
    for (struct curl_slist *h = headers; h; h = h->next)
        bh_wipe(h->data, strlen(h->data));
    curl_slist_free_all(headers);
}

static bool
add_header(struct bh_http *http, const char *line)
{
    struct curl_slist *more = curl_slist_append(http->headers, line);
    if (more)
        http->headers = more;
    return more != NULL;
}

static bool
add_headers(struct bh_http *http, const char *token)
{
    char line[1024];
    /* The last one says to the feed that this agent knows documents (doc/contract/feed.md). */
    bool ok = add_header(http, "Content-Type: application/json") && add_header(http, "Expect:") &&
              add_header(http, "Bulkhead-Feed: documents");
    if (ok && token) {
        ok = (size_t)snprintf(line, sizeof(line), "Authorization: Bearer %s", token) <
                 sizeof(line) &&
             add_header(http, line);
        bh_wipe(line, sizeof(line));
    }
    return ok;
}

enum bh_code
bh_http_new(const char *url, const char *token, struct bh_http **ret_http, struct bh_error *err)
{
    struct bh_http *http = calloc(1, sizeof(*http));
    if (http) {
        http->curl = curl_easy_init();
        http->url = strdup(url);
    }
    if (!http || !http->curl || !http->url || !add_headers(http, token)) {
        bh_http_free(http);
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for an HTTP client");
    }
    *ret_http = http;
    return BH_OK;
}

void
bh_http_free(struct bh_http *http)
{
    if (!http)
        return;
    if (http->curl)
        curl_easy_cleanup(http->curl);
    free_headers(http->headers);
    free(http->url);
    free(http);
}

static enum bh_code
prepare(struct bh_http *http, const char *path, struct bh_error *err)
{
    char url[URL_MAX];
    if ((size_t)snprintf(url, sizeof(url), "%s%s", http->url, path) >= sizeof(url))
        return bh_fail(err, BH_E_CONFIG, "the control plane's address is too long");
    CURL *curl = http->curl;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, http->headers);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_TCP_NODELAY, 1L);
    return BH_OK;
}

static enum bh_code
answer_of(struct bh_http *http, CURLcode rc, long *ret_status, struct bh_error *err)
{
    if (rc == CURLE_OPERATION_TIMEDOUT)
        return bh_fail(err, BH_E_TIMEOUT, "%s did not answer in time", http->url);
    if (rc != CURLE_OK)
        return bh_fail(err, BH_E_UNAVAILABLE, "%s: %s", http->url, curl_easy_strerror(rc));
    curl_easy_getinfo(http->curl, CURLINFO_RESPONSE_CODE, ret_status);
    return BH_OK;
}

static size_t
collect(char *data, size_t size, size_t count, void *arg)
{
    struct bh_buf *buf = arg;
    bh_buf_add(buf, data, size * count);
    return bh_buf_ok(buf) ? size * count : 0;
}

enum bh_code
bh_http_send(struct bh_http *http, struct bh_http_call *call, struct bh_error *err)
{
    BH_TRY(prepare(http, call->path, err));
    struct bh_buf buf;
    bh_buf_init_arena(&buf, call->arena, BH_HTTP_BODY_MAX);
    CURL *curl = http->curl;
    if (strcmp(call->method, "GET") != 0)
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, call->method);
    if (call->body) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)call->body->len);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, call->body->data);
    }
    curl_easy_setopt(
        curl, CURLOPT_TIMEOUT_MS, call->timeout_ms ? call->timeout_ms : SEND_TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, collect);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &buf);
    BH_TRY(answer_of(http, curl_easy_perform(curl), &call->status, err));
    call->answer = bh_buf_str(&buf);
    return BH_OK;
}

struct flow {
    struct bh_http *http;
    struct bh_http_stream *stream;
    int64_t heard_us;
    enum bh_code failed; /* of visit, or of silence */
    struct bh_error *err;
};

static size_t
pass_on(char *data, size_t size, size_t count, void *arg)
{
    struct flow *flow = arg;
    size_t len = size * count;
    flow->heard_us = bh_mono_us();
    long status = 0;
    curl_easy_getinfo(flow->http->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200)
        return len;
    flow->failed = flow->stream->visit(flow->stream->arg, data, len, flow->err);
    return flow->failed == BH_OK ? len : 0;
}

/* curl calls this about once a second also where nothing comes. */
static int
watch(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)a, (void)b, (void)c, (void)d;
    struct flow *flow = arg;
    if (bh_mono_us() - flow->heard_us < flow->stream->silence_ms * 1000)
        return 0;
    flow->failed = bh_fail(flow->err, BH_E_TIMEOUT, "%s: nothing came for %lld s", flow->http->url,
        (long long)(flow->stream->silence_ms / 1000));
    return 1;
}

enum bh_code
bh_http_stream(struct bh_http *http, struct bh_http_stream *stream, struct bh_error *err)
{
    BH_TRY(prepare(http, stream->path, err));
    struct flow flow = {http, stream, bh_mono_us(), BH_OK, err};
    CURL *curl = http->curl;
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, pass_on);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &flow);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, watch);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &flow);
    CURLcode rc = curl_easy_perform(curl);
    if (flow.failed != BH_OK)
        return flow.failed;
    return answer_of(http, rc, &stream->status, err);
}
