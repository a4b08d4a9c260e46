#include "cli/http.h"

#include <curl/curl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/out.h"
#include "core/buf.h"

#define ANSWER_MAX ((size_t)64 << 20)
#define PATH_LIMIT 8192

static volatile sig_atomic_t interrupted;

static void
note_signal(int number)
{
    interrupted = number;
}

void
bh_interrupts_watch(void)
{
    struct sigaction action = {.sa_handler = note_signal};

    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

int
bh_interrupted(void)
{
    return interrupted;
}

/* ---- where, and as whom ---- */

static bool
is_loopback(const char *url)
{
    static const char *const hosts[] = {"127.0.0.1", "localhost", "[::1]"};
    const char *host = strstr(url, "://");

    if (host == NULL)
        return false;
    host += 3;
    for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
        size_t len = strlen(hosts[i]);
        if (strncmp(host, hosts[i], len) == 0 && strchr(":/", host[len]) != NULL /* or the end */)
            return true;
    }
    return false;
}

static enum bh_code
check_token(const char *token, const char *from, struct bh_error *err)
{
    if (token == NULL ||
        (*token != '\0' && strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijkl"
                                         "mnopqrstuvwxyz0123456789-._~+/=") == strlen(token)))
        return BH_OK;
    return bh_fail(err, BH_E_CONFIG, "%s does not hold a token", from);
}

static enum bh_code
read_token(const struct bh_state *state, struct bh_client *client, struct bh_error *err)
{
    char *text;
    enum bh_code code = bh_state_read(state, "operator.token", client->arena, &text, err);

    if (code == BH_E_NOT_FOUND)
        return BH_OK;
    BH_TRY(code);
    text[strcspn(text, "\r\n")] = '\0';
    client->token = text;
    return check_token(text, "operator.token", err);
}

static enum bh_code
start_curl(struct bh_client *client, struct bh_error *err)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0 || (client->curl = curl_easy_init()) == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "cannot start the HTTP client");
    return BH_OK;
}

enum bh_code
bh_client_open(const struct bh_cli *cli, struct bh_client *ret_client, struct bh_error *err)
{
    const char *url = getenv("BULKHEAD_URL");
    const char *token = getenv("BULKHEAD_TOKEN");
    struct bh_state state;
    char *base;

    *ret_client = (struct bh_client){.arena = cli->arena, .timeout_ms = 30000};
    BH_TRY(bh_state_find(cli, &state, err));
    if (url == NULL || *url == '\0')
        base = bh_arena_printf(cli->arena, "http://127.0.0.1:%ld", state.ports[BH_PORT_CONTROL]);
    else
        base = bh_arena_strdup(cli->arena, url);
    if (base == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    for (size_t len = strlen(base); len > 0 && base[len - 1] == '/'; len--)
        base[len - 1] = '\0';
    if (strncmp(base, "http://", 7) != 0 && strncmp(base, "https://", 8) != 0)
        return bh_fail(
            err, BH_E_CONFIG, "BULKHEAD_URL is no http:// or https:// address: %s", base);
    ret_client->base = base;
    ret_client->local = is_loopback(base);
    if (token != NULL && *token != '\0')
        ret_client->token = token;
    else if (ret_client->local)
        BH_TRY(read_token(&state, ret_client, err));
    BH_TRY(check_token(ret_client->token, "BULKHEAD_TOKEN", err));
    return start_curl(ret_client, err);
}

static enum bh_code
open_port(const struct bh_cli *cli, const struct bh_state *state, enum bh_port port,
    struct bh_client *ret_client, struct bh_error *err)
{
    *ret_client = (struct bh_client){.arena = cli->arena, .timeout_ms = 30000, .local = true};
    ret_client->base = bh_arena_printf(cli->arena, "http://127.0.0.1:%ld", state->ports[port]);
    if (ret_client->base == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    BH_TRY(read_token(state, ret_client, err));
    return start_curl(ret_client, err);
}

enum bh_code
bh_client_local(const struct bh_cli *cli, const struct bh_state *state,
    struct bh_client *ret_client, struct bh_error *err)
{
    return open_port(cli, state, BH_PORT_CONTROL, ret_client, err);
}

enum bh_code
bh_client_agent(const struct bh_cli *cli, const struct bh_state *state,
    struct bh_client *ret_client, struct bh_error *err)
{
    return open_port(cli, state, BH_PORT_AGENT, ret_client, err);
}

void
bh_client_close(struct bh_client *client)
{
    if (client->curl != NULL)
        curl_easy_cleanup(client->curl);
    client->curl = NULL;
}

/* ---- a call ---- */

static size_t
take_bytes(char *data, size_t size, size_t count, void *user)
{
    struct bh_buf *buf = user;

    bh_buf_add(buf, data, size * count);
    return bh_buf_ok(buf) ? size * count : 0;
}

static int
check_progress(void *user, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    (void)user, (void)a, (void)b, (void)c, (void)d;
    return interrupted != 0;
}

/* Appends `name: value`; a list that could not grow is freed and NULL. */
static struct curl_slist *
add_header(struct bh_client *client, struct curl_slist *list, const char *name, const char *value)
{
    const char *line = bh_arena_printf(client->arena, "%s: %s", name, value);
    struct curl_slist *longer = line == NULL ? NULL : curl_slist_append(list, line);

    if (longer == NULL)
        curl_slist_free_all(list);
    return longer;
}

static struct curl_slist *
make_headers(struct bh_client *client, const struct bh_request *request)
{
    struct curl_slist *list = add_header(client, NULL, "Accept", "application/json");

    if (list != NULL && request->body != NULL)
        list = add_header(client, list, "Content-Type", "application/json");
    if (list != NULL && client->token != NULL) {
        const char *value = bh_arena_printf(client->arena, "Bearer %s", client->token);
        list = value == NULL ? list : add_header(client, list, "Authorization", value);
    }
    if (list != NULL && request->if_match != NULL)
        list = add_header(client, list, "If-Match", request->if_match);
    if (list != NULL && request->create_only)
        list = add_header(client, list, "If-None-Match", "*");
    return list == NULL ? NULL : add_header(client, list, "Expect", "");
}

static enum bh_code
unreachable(const struct bh_client *client, CURLcode code, struct bh_error *err)
{
    if (interrupted != 0)
        return bh_fail(err, BH_E_TIMEOUT, "interrupted");
    if (code == CURLE_URL_MALFORMAT)
        return bh_fail(err, BH_E_CONFIG, "BULKHEAD_URL is no address: %s", client->base);
    (void)bh_fail(err, BH_E_UNAVAILABLE, "cannot reach the control plane at %s: %s", client->base,
        curl_easy_strerror(code));
    return client->local ? bh_hint(err, "start it with: bulkhead up")
                         : bh_hint(err, "is BULKHEAD_URL right?");
}

static void
set_options(struct bh_client *client, const struct bh_request *request, struct bh_buf *body)
{
    CURL *curl = client->curl;

    curl_easy_reset(curl); /* keeps the connection */
    (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
    (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(curl, CURLOPT_NOPROXY, "127.0.0.1,localhost,::1");
    (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, 5000L);
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, client->timeout_ms);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_bytes);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, body);
    (void)curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    (void)curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, check_progress);
}

/* Sends, and takes the answer's bytes; the status is not looked at. */
static enum bh_code
exchange(struct bh_client *client, const struct bh_request *request, struct bh_buf *body,
    long *ret_status, struct bh_error *err)
{
    const char *url = bh_arena_printf(client->arena, "%s%s", client->base, request->path);
    char *text = request->body == NULL ? NULL : json_dumps(request->body, JSON_COMPACT);
    struct curl_slist *headers = make_headers(client, request);
    CURLcode code = CURLE_OUT_OF_MEMORY;

    if (url != NULL && headers != NULL && (text != NULL || request->body == NULL)) {
        set_options(client, request, body);
        (void)curl_easy_setopt(client->curl, CURLOPT_URL, url);
        (void)curl_easy_setopt(client->curl, CURLOPT_HTTPHEADER, headers);
        if (text != NULL) {
            (void)curl_easy_setopt(client->curl, CURLOPT_POSTFIELDSIZE, (long)strlen(text));
            (void)curl_easy_setopt(client->curl, CURLOPT_COPYPOSTFIELDS, text);
        }
        code = curl_easy_perform(client->curl);
        (void)curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, ret_status);
    }
    curl_slist_free_all(headers);
    free(text);
    return code == CURLE_OK ? BH_OK : unreachable(client, code, err);
}

static enum bh_code
code_of_status(long status)
{
    for (int code = 1; code < BH_CODE_COUNT; code++)
        if (status >= 400 && bh_code_http((enum bh_code)code) == (int)status)
            return (enum bh_code)code;
    return status >= 400 && status < 500 ? BH_E_BAD_REQUEST : BH_E_INTERNAL;
}

enum bh_code
bh_problem_read(const json_t *problem, long status, struct bh_error *err)
{
    const char *slug = bh_json_text(problem, "code");
    const char *detail = bh_json_text(problem, "detail");
    const char *hint = bh_json_text(problem, "hint");
    const json_t *first = json_array_get(json_object_get(problem, "errors"), 0);
    const char *pointer = bh_json_text(first, "pointer");
    enum bh_code code = slug == NULL ? BH_E_INTERNAL : bh_code_find(slug);

    if (code == BH_E_INTERNAL && status != 0)
        code = code_of_status(status);
    if (detail == NULL)
        detail = bh_json_text(problem, "title");
    (void)bh_fail_at(err, code, pointer == NULL ? "" : pointer, "%s",
        detail == NULL ? bh_code_title(code) : detail);
    return bh_hint(err, "%s", hint == NULL ? "" : hint);
}

static enum bh_code
stranger(const struct bh_client *client, long status, struct bh_error *err)
{
    return bh_fail(err, BH_E_UNAVAILABLE,
        "what answers at %s (status %ld) does not speak as Bulkhead does", client->base, status);
}

static enum bh_code
judge(const struct bh_client *client, const struct bh_answer *answer, bool empty,
    struct bh_error *err)
{
    if (answer->status >= 200 && answer->status < 300 && (empty || answer->body != NULL))
        return BH_OK;
    if (answer->status < 400 || !json_is_object(answer->body))
        return stranger(client, answer->status, err);
    (void)bh_problem_read(answer->body, answer->status, err);
    if (answer->status == 401 && client->token == NULL)
        return client->local ? bh_hint(err, "no operator.token in the state directory: bulkhead up")
                             : bh_hint(err, "set BULKHEAD_TOKEN");
    return err->code;
}

enum bh_code
bh_client_call(struct bh_client *client, const struct bh_request *request,
    struct bh_answer *ret_answer, struct bh_error *err)
{
    struct bh_arena *keep = client->arena;
    struct bh_chunks scratch; /* a watch calls hundreds of times */
    struct bh_buf body;
    enum bh_code code;

    *ret_answer = (struct bh_answer){0};
    bh_chunks_init(&scratch);
    client->arena = &scratch.arena;
    bh_buf_init_arena(&body, client->arena, ANSWER_MAX);
    code = exchange(client, request, &body, &ret_answer->status, err);
    if (code == BH_OK && body.len > 0)
        ret_answer->body = json_loadb(body.data, body.len, JSON_REJECT_DUPLICATES, NULL);
    if (code == BH_OK)
        code = judge(client, ret_answer, body.len == 0, err);
    client->arena = keep;
    bh_chunks_fini(&scratch);
    return code;
}

const char *
bh_client_escape(struct bh_client *client, const char *text)
{
    char *escaped = curl_easy_escape(client->curl, text, (int)strlen(text));
    const char *copy = escaped == NULL ? NULL : bh_arena_strdup(client->arena, escaped);

    curl_free(escaped);
    return copy == NULL ? "" : copy;
}

const char *
bh_client_path(struct bh_client *client, const char *fmt, ...)
{
    char text[PATH_LIMIT];
    va_list args;
    const char *copy;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    copy = bh_arena_strdup(client->arena, text);
    return copy == NULL ? "/" : copy;
}
