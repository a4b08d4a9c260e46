/*
 * HTTP: libmicrohttpd reads requests and sends answers in one epoll thread; a
 * few workers run them.  While a worker has a request its connection is
 * suspended, so the two never touch it at once.
 */
#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "control/api/exchange.h"
#include "control/api/hub.h"
#include "core/codec.h"

#define SWALLOW_MAX ((size_t)1 << 20) /* a body too large is still read this far: a polite 413 */
#define CONNECTIONS_MAX 1000
#define CONNECTION_MEMORY ((size_t)256 << 10) /* request line and headers; touched as needed */
#define TIMEOUT_S 30

static struct MHD_Response *
make_response(struct bh_exchange *x)
{
    struct bh_reply *reply = &x->reply;
    struct MHD_Response *response;
    off_t size;

    if (reply->stream != NULL) {
        bh_stream_bind(reply->stream, x->connection);
        return MHD_create_response_from_callback(
            MHD_SIZE_UNKNOWN, 16384, bh_stream_read, reply->stream, NULL);
    }
    if (reply->fd < 0)
        return MHD_create_response_from_buffer(
            reply->body.len, reply->body.data, MHD_RESPMEM_PERSISTENT);
    size = lseek(reply->fd, 0, SEEK_END);
    response = size < 0 ? NULL : MHD_create_response_from_fd64((uint64_t)size, reply->fd);
    if (response != NULL)
        reply->fd = -1; /* the response closes it */
    return response;
}

static enum MHD_Result
respond(struct bh_exchange *x)
{
    struct bh_reply *reply = &x->reply;
    struct MHD_Response *response = make_response(x);
    enum MHD_Result result;

    if (response == NULL)
        return MHD_NO;
    (void)MHD_add_response_header(response, "X-Request-Id", x->request.id);
    (void)MHD_add_response_header(response, "Cache-Control", "no-store");
    (void)MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (reply->status != 204)
        (void)MHD_add_response_header(response, "Content-Type", reply->content_type);
    for (size_t i = 0; i < reply->header_count; i++)
        (void)MHD_add_response_header(response, reply->headers[i].name, reply->headers[i].value);
    result = MHD_queue_response(x->connection, (unsigned)reply->status, response);
    MHD_destroy_response(response);
    bh_exchange_log(x);
    return result;
}

/* The target without scheme and authority (absolute form), cut at the question mark. */
static void
cut_target(struct bh_request *request, const char *target)
{
    struct bh_str rest = bh_str_of(target);
    const char *slash;

    if (strncmp(target, "http://", 7) == 0) {
        slash = strchr(target + 7, '/');
        rest = bh_str_of(slash == NULL ? "/" : slash);
    }
    request->path = rest;
    request->raw_query = (struct bh_str){NULL, 0};
    (void)bh_str_cut(rest, '?', &request->path, &request->raw_query);
}

static void *
open_exchange(void *cls, const char *uri, struct MHD_Connection *connection)
{
    struct bh_exchange *x = calloc(1, sizeof(*x));
    struct timespec now;
    uint8_t random[10];
    char *target;

    if (x == NULL)
        return NULL;
    bh_chunks_init(&x->chunks);
    x->api = cls;
    x->connection = connection;
    x->start_us = bh_clock_us();
    x->request.arena = &x->chunks.arena;
    x->request.config = &x->api->config;
    x->request.hub = x->api->hub;
    bh_buf_init_arena(&x->body, &x->chunks.arena, BH_BODY_MAX + 2);
    bh_exchange_reset(x);
    (void)clock_gettime(CLOCK_REALTIME, &now);
    target = bh_arena_strdup(&x->chunks.arena, uri);
    if (target == NULL || RAND_bytes(random, sizeof(random)) != 1) {
        bh_chunks_fini(&x->chunks);
        free(x);
        return NULL;
    }
    bh_ulid_make((int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000, random, x->request.id);
    cut_target(&x->request, target);
    return x;
}

static void
close_exchange(void *cls, struct MHD_Connection *connection, void **con_cls,
    enum MHD_RequestTerminationCode reason)
{
    struct bh_exchange *x = *con_cls;

    (void)cls;
    (void)connection;
    (void)reason;
    if (x == NULL)
        return;
    *con_cls = NULL;
    if (x->reply.stream != NULL)
        bh_stream_drop(x->reply.stream);
    if (x->reply.fd >= 0)
        (void)close(x->reply.fd);
    if (x->reply.secret)
        bh_wipe(x->reply.body.data, x->reply.body.len);
    bh_chunks_fini(&x->chunks);
    free(x);
}

static enum MHD_Result
count_authorization(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
    (void)kind;
    (void)value;
    if (strcasecmp(key, "Authorization") == 0)
        ++*(unsigned *)cls;
    return MHD_YES;
}

static const char *
header(const struct bh_exchange *x, const char *name)
{
    const char *value = MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);

    return value == NULL ? NULL : bh_arena_strdup(x->request.arena, value);
}

/* Take what is known before the body.  Returns false where the body shall not even be read. */
static bool
begin(struct bh_exchange *x, const char *method)
{
    const char *length = header(x, "Content-Length");
    uint64_t announced = 0;
    unsigned count = 0;

    x->begun = true;
    x->request.method = bh_arena_strdup(x->request.arena, method);
    if (x->request.method == NULL)
        x->request.method = "";
    x->request.head = strcmp(x->request.method, "HEAD") == 0;
    x->request.authorization = header(x, "Authorization");
    x->request.if_match = header(x, "If-Match");
    x->request.if_none_match = header(x, "If-None-Match");
    x->request.feed = header(x, "Bulkhead-Feed");
    (void)MHD_get_connection_values(x->connection, MHD_HEADER_KIND, count_authorization, &count);
    x->request.authorization_twice = count > 1;
    if (length != NULL)
        (void)bh_str_uint(bh_str_of(length), UINT64_MAX, &announced);
    x->request.too_large = announced > BH_BODY_MAX;
    return announced <= SWALLOW_MAX;
}

static enum MHD_Result
take_body(struct bh_exchange *x, const char *data, size_t size)
{
    x->received += size;
    if (x->received > BH_BODY_MAX)
        x->request.too_large = true;
    if (!x->request.too_large)
        bh_buf_add(&x->body, data, size);
    return x->received > SWALLOW_MAX ? MHD_NO : MHD_YES;
}

static enum MHD_Result
dispatch(struct bh_exchange *x)
{
    x->request.body = bh_buf_str(&x->body);
    x->queued_us = bh_clock_us();
    if (!bh_route_inline(x->request.path) && bh_exchange_enqueue(x))
        return MHD_YES;
    bh_exchange_run(x);
    return respond(x);
}

static enum MHD_Result
answer(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
    const char *version, const char *data, size_t *size, void **con_cls)
{
    struct bh_exchange *x = *con_cls;

    (void)cls;
    (void)connection;
    (void)url;
    (void)version;
    if (x == NULL)
        return MHD_NO;
    if (x->done)
        return respond(x);
    if (!x->begun)
        return begin(x, method) ? MHD_YES : dispatch(x);
    if (*size > 0) {
        size_t got = *size;
        *size = 0;
        return take_body(x, data, got);
    }
    return dispatch(x);
}

/* ---- start and stop ---- */

/* "127.0.0.1:7070" or "[::1]:7070": numbers only, no names. */
static enum bh_code
open_socket(const char *listen_on, int *ret_fd, struct bh_error *err)
{
    const struct addrinfo hints = {
        .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char host[64];
    const char *colon = strrchr(listen_on, ':');
    size_t len = colon == NULL ? 0 : (size_t)(colon - listen_on);
    const int on = 1;
    int fd = -1;

    if (len == 0 || len >= sizeof(host))
        return bh_fail(err, BH_E_CONFIG, "--listen %s is no ADDRESS:PORT", listen_on);
    memcpy(host, listen_on, len);
    host[len] = '\0';
    if (host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = '\0';
        memmove(host, host + 1, len - 1);
    }
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        return bh_fail(err, BH_E_CONFIG, "--listen %s is no ADDRESS:PORT", listen_on);
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(fd, found->ai_addr, found->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0) {
        (void)bh_fail(err, BH_E_CONFIG, "cannot listen on %s: %s", listen_on, strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        freeaddrinfo(found);
        return bh_hint(err, "choose another port with --listen");
    }
    freeaddrinfo(found);
    *ret_fd = fd;
    return BH_OK;
}

static enum bh_code
start_http(struct bh_api *api, struct bh_error *err)
{
    int fd = -1;

    BH_TRY(open_socket(api->config.listen, &fd, err));
    api->daemon = MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME, 0,
        NULL, NULL, answer, api, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_URI_LOG_CALLBACK,
        open_exchange, api, MHD_OPTION_NOTIFY_COMPLETED, close_exchange, api,
        MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, TIMEOUT_S,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_END);
    if (api->daemon != NULL)
        return BH_OK;
    (void)close(fd);
    return bh_fail(err, BH_E_INTERNAL, "cannot start the HTTP server");
}

enum bh_code
bh_api_start(const struct bh_api_config *config, struct bh_api **ret_api, struct bh_error *err)
{
    struct bh_api *api = calloc(1, sizeof(*api));
    enum bh_code code;

    if (api == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    api->config = *config;
    (void)pthread_mutex_init(&api->lock, NULL);
    (void)pthread_cond_init(&api->changed, NULL);
    code = bh_hub_start(config->registry, &api->hub, err);
    if (code == BH_OK)
        code = bh_workers_start(api, err);
    if (code == BH_OK)
        code = start_http(api, err);
    if (code != BH_OK) {
        bh_api_stop(api);
        return code;
    }
    *ret_api = api;
    return BH_OK;
}

/* libmicrohttpd wants every connection resumed before it stops: workers first, then streams. */
void
bh_api_stop(struct bh_api *api)
{
    MHD_socket fd = MHD_INVALID_SOCKET;

    if (api->daemon != NULL)
        fd = MHD_quiesce_daemon(api->daemon);
    bh_workers_stop(api);
    if (api->hub != NULL)
        bh_hub_close(api->hub);
    if (api->daemon != NULL)
        MHD_stop_daemon(api->daemon);
    if (fd != MHD_INVALID_SOCKET)
        (void)close(fd);
    bh_hub_free(api->hub);
    (void)pthread_cond_destroy(&api->changed);
    (void)pthread_mutex_destroy(&api->lock);
    free(api);
}
