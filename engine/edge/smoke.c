#include "engine/edge/smoke.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>

#include "core/codec.h"

#define EXCERPT_MAX 200

/* The start of a body, made fit for a message. */
struct excerpt {
    char text[EXCERPT_MAX + 1];
    size_t len;
};

static size_t
take_body(char *data, size_t size, size_t count, void *arg)
{
    struct excerpt *excerpt = arg;
    size_t len = size * count;
    for (size_t i = 0; i < len && excerpt->len < EXCERPT_MAX; i++)
        excerpt->text[excerpt->len++] = (data[i] >= ' ' && data[i] < 127) ? data[i] : ' ';
    excerpt->text[excerpt->len] = 0;
    return len;
}

static void
init_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static bool
may_pass(long status)
{
    return status == 401 || status == 404 || status == 429 || status >= 500;
}

static struct curl_slist *
make_headers(const struct bh_smoke *smoke, bool with_token)
{
    char line[8192];
    snprintf(line, sizeof(line), "Host: %s", smoke->host);
    struct curl_slist *headers = curl_slist_append(NULL, line);
    if (!headers || !with_token)
        return headers;
    snprintf(line, sizeof(line), "Authorization: Bearer %s", smoke->token);
    struct curl_slist *more = curl_slist_append(headers, line);
    bh_wipe(line, sizeof(line));
    if (!more)
        curl_slist_free_all(headers);
    return more;
}

static CURLcode
ask(CURL *curl, const struct bh_smoke *smoke, const char *path, struct curl_slist *headers,
    struct excerpt *excerpt)
{
    char url[1024];
    snprintf(url, sizeof(url), "%s%s", smoke->edge_url, path);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, smoke->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "bulkhead-smoke");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, excerpt);
    return curl_easy_perform(curl);
}

static enum bh_code
judge(const struct bh_smoke *smoke, const char *path, long status, const struct excerpt *excerpt,
    struct bh_error *err)
{
    if (status == 200 || (smoke->guarded && (status == 401 || status == 403)))
        return BH_OK;
    return bh_fail(err, may_pass(status) ? BH_E_UNAVAILABLE : BH_E_ENGINE,
        "GET %s for %s answered %ld: %s", path, smoke->host, status, excerpt->text);
}

static enum bh_code
expect_service(CURL *curl, const struct bh_smoke *smoke, const char *path, bool with_token,
    struct bh_error *err)
{
    struct excerpt excerpt = {.len = 0};
    struct curl_slist *headers = make_headers(smoke, with_token);
    long status = 0;
    if (!headers)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for the smoke test");
    CURLcode result = ask(curl, smoke, path, headers, &excerpt);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    if (result != CURLE_OK)
        return bh_fail(err, BH_E_UNAVAILABLE, "GET %s for %s at %s failed: %s", path, smoke->host,
            smoke->edge_url, curl_easy_strerror(result));
    return judge(smoke, path, status, &excerpt, err);
}

enum bh_code
bh_smoke_run(const struct bh_smoke *smoke, struct bh_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_curl);
    CURL *curl = curl_easy_init();
    if (!curl)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for the smoke test");
    enum bh_code code = expect_service(curl, smoke, "/", false, err);
    if (code == BH_OK && !smoke->guarded)
        code = expect_service(curl, smoke, "/orders", true, err);
    curl_easy_cleanup(curl);
    return code;
}
