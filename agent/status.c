#include "agent/status.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "agent/doctor.h"
#include "agent/log.h"
#include "agent/metrics.h"
#include "agent/ports.h"
#include "agent/proc.h"
#include "agent/seed.h"
#include "bh_config.h"
#include "core/codec.h"
#include "core/json.h"

#define BODY_MAX 4096
#define ANSWER_MAX 131072 /* 21 tenants' series of the metrics */
#define CONNECTIONS_MAX 32u

struct request {
    size_t len;
    bool too_large;
    char body[BODY_MAX];
};

struct answer {
    unsigned status;
    const char *type;
    struct bh_buf text;
};

static void
problem(struct answer *answer, const struct bh_error *err)
{
    answer->status = (unsigned)bh_code_http(err->code);
    answer->type = "application/problem+json";
    bh_buf_reset(&answer->text);
    bh_buf_printf(&answer->text,
        "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%u,\"code\":\"%s\",\"detail\":",
        bh_code_title(err->code), answer->status, bh_code_slug(err->code));
    bh_buf_json(&answer->text, bh_str_of(err->detail));
    if (err->hint[0]) {
        bh_buf_puts(&answer->text, ",\"hint\":");
        bh_buf_json(&answer->text, bh_str_of(err->hint));
    }
    bh_buf_puts(&answer->text, "}\n");
}

/* ---- routes ---- */

static void
get_livez(struct bh_status *status, struct request *request, struct answer *answer)
{
    (void)status, (void)request;
    bh_buf_puts(&answer->text, "{\"live\":true}\n");
}

static void
get_readyz(struct bh_status *status, struct request *request, struct answer *answer)
{
    (void)request;
    struct bh_error err;
    bool up = !status->supervisor || bh_supervisor_up(status->supervisor);
    if (up && bh_node_ready(status->node)) {
        bh_buf_puts(&answer->text, "{\"ready\":true}\n");
        return;
    }
    bh_fail(&err, BH_E_NOT_READY,
        up ? "the snapshot is not in step with the control plane" : "a component is not up");
    bh_hint(&err, "see bulkhead status");
    problem(answer, &err);
}

static void
lonely_agent(struct bh_status *status, struct bh_buf *out)
{
    bh_buf_printf(out,
        "\"components\":[{\"name\":\"agent\",\"state\":\"up\",\"pid\":%d,\"port\":%u,"
        "\"version\":\"" BH_VERSION "\"}]",
        (int)getpid(), status->port);
}

static void
get_status(struct bh_status *status, struct request *request, struct answer *answer)
{
    (void)request;
    bh_buf_puts(&answer->text, "{");
    if (status->supervisor)
        bh_supervisor_json(status->supervisor, false, &answer->text);
    else
        lonely_agent(status, &answer->text);
    bh_buf_puts(&answer->text, ",");
    bh_node_json(status->node, &answer->text);
    bh_buf_puts(&answer->text, "}\n");
}

static void
get_metrics(struct bh_status *status, struct request *request, struct answer *answer)
{
    (void)request;
    answer->type = "text/plain; version=0.0.4; charset=utf-8";
    bh_metrics_write(status->node, &answer->text);
}

static void
get_doctor(struct bh_status *status, struct request *request, struct answer *answer)
{
    (void)request;
    bh_doctor_json(status->node, &answer->text);
}

static enum bh_code
seed(struct bh_status *status, struct request *request, bool *ret_seeded, struct bh_error *err)
{
    struct bh_chunks chunks;
    struct bh_json *root;
    if (request->too_large)
        return bh_fail(err, BH_E_TOO_LARGE, "the body exceeds %d bytes", BODY_MAX);
    bh_chunks_init(&chunks);
    enum bh_code code = bh_json_parse(
        (struct bh_str){request->body, request->len}, BH_JSON_DEPTH, &chunks.arena, &root, err);
    if (code == BH_OK) {
        const struct bh_json *tenant = bh_json_get(root, "tenant");
        const struct bh_json *token = bh_json_get(root, "token");
        if (!tenant || tenant->kind != BH_JSON_STRING)
            code = bh_fail_at(err, BH_E_INVALID, "/tenant", "tenant must be a string");
        else if (!token || token->kind != BH_JSON_STRING)
            code = bh_fail_at(err, BH_E_INVALID, "/token", "token must be a string");
        else
            code = bh_seed_run(status->site, tenant->text, token->text, ret_seeded, err);
    }
    bh_chunks_fini(&chunks);
    return code;
}

static void
post_seed(struct bh_status *status, struct request *request, struct answer *answer)
{
    bool seeded;
    struct bh_error err = {.code = BH_OK};
    if (seed(status, request, &seeded, &err) != BH_OK)
        problem(answer, &err);
    else
        bh_buf_printf(&answer->text, "{\"seeded\":%s}\n", seeded ? "true" : "false");
}

static const struct route {
    const char *method;
    const char *path;
    bool operator_only;
    bool embedded_only;
    void (*serve)(struct bh_status *status, struct request *request, struct answer *answer);
} routes[] = {
    {"GET", "/livez", false, false, get_livez},
    {"GET", "/readyz", false, false, get_readyz},
    {"GET", "/status", false, false, get_status},
    {"GET", "/metrics", false, false, get_metrics},
    {"GET", "/doctor", false, false, get_doctor},
    {"POST", "/seed", true, true, post_seed},
};

/* ---- the server ---- */

static bool
is_operator(const struct bh_status *status, struct MHD_Connection *connection)
{
    const char *value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Authorization");
    unsigned char digest[EVP_MAX_MD_SIZE];
    if (!value || strncasecmp(value, "Bearer ", 7) != 0)
        return false;
    return EVP_Digest(value + 7, strlen(value + 7), digest, NULL, EVP_sha256(), NULL) == 1 &&
           bh_equal_ct(digest, status->operator_sha256, sizeof(status->operator_sha256));
}

static bool
method_is(const char *method, const char *wanted)
{
    return strcmp(method, wanted) == 0 ||
           (strcmp(method, "HEAD") == 0 && strcmp(wanted, "GET") == 0);
}

/* Credential first, then method, as the control plane does. */
static void
dispatch(struct bh_status *status, struct MHD_Connection *connection, const char *method,
    const char *path, struct request *request, struct answer *answer)
{
    struct bh_error err;
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        const struct route *route = &routes[i];
        if (strcmp(path, route->path) != 0 || (route->embedded_only && !status->site))
            continue;
        if (route->operator_only && !is_operator(status, connection))
            bh_fail(&err, BH_E_UNAUTHENTICATED, "the operator's token is needed");
        else if (!method_is(method, route->method))
            bh_fail(&err, BH_E_METHOD_NOT_ALLOWED, "only %s is allowed here", route->method);
        else {
            route->serve(status, request, answer);
            return;
        }
        problem(answer, &err);
        return;
    }
    bh_fail(&err, BH_E_NOT_FOUND, "there is no such path");
    problem(answer, &err);
}

static enum MHD_Result
send_answer(struct MHD_Connection *connection, const struct answer *answer)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(answer->text.len, answer->text.data, MHD_RESPMEM_MUST_COPY);
    if (!response)
        return MHD_NO;
    (void)MHD_add_response_header(response, "Content-Type", answer->type);
    (void)MHD_add_response_header(response, "Cache-Control", "no-store");
    if (answer->status == 401)
        (void)MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    enum MHD_Result result = MHD_queue_response(connection, answer->status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result
handle(void *arg, struct MHD_Connection *connection, const char *path, const char *method,
    const char *version, const char *data, size_t *size, void **state)
{
    (void)version;
    struct request *request = *state;
    if (!request) {
        *state = calloc(1, sizeof(*request));
        return *state ? MHD_YES : MHD_NO;
    }
    if (*size) {
        request->too_large |= *size > sizeof(request->body) - request->len;
        if (!request->too_large) {
            memcpy(request->body + request->len, data, *size);
            request->len += *size;
        }
        *size = 0;
        return MHD_YES;
    }
    char text[ANSWER_MAX];
    struct answer answer = {.status = 200, .type = "application/json"};
    bh_buf_init(&answer.text, text, sizeof(text));
    dispatch(arg, connection, method, path, request, &answer);
    return send_answer(connection, &answer);
}

static void
done(
    void *arg, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode how)
{
    (void)arg, (void)connection, (void)how;
    if (*state)
        bh_wipe(*state, sizeof(struct request));
    free(*state);
    *state = NULL;
}

enum bh_code
bh_status_start(struct bh_status *status, struct bh_error *err)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(status->port)};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    /* A thread a connection: seeding takes a while, and status must answer meanwhile. */
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_THREAD_PER_CONNECTION | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL,
        status->port, NULL, NULL, handle, status, MHD_OPTION_SOCK_ADDR, &addr,
        MHD_OPTION_NOTIFY_COMPLETED, done, NULL, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, 15u, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_END);
    if (daemon)
        return BH_OK;
    if (!bh_port_free(status->port))
        return bh_port_taken(status->port, "agent", "--agent-port", err);
    return bh_fail(err, BH_E_CONFIG, "cannot listen on 127.0.0.1:%u", status->port);
}
