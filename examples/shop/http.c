#include "http.h"

#include <errno.h>
#include <jansson.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "handlers.h"
#include "query.h"

#define BODY_MAX (64 * 1024)

struct shop_server {
    struct MHD_Daemon *daemon;
    struct shop_pool *pool;
};

/* A "{id}" at the end of a path stands for a positive number. */
static const struct route {
    const char *path;
    bool has_id;
    shop_handler *get;
    shop_handler *post;
    const char *allow;
} routes[] = {
    {"/", false, shop_home, NULL, "GET, HEAD"},
    {"/orders", false, shop_orders_list, shop_orders_create, "GET, HEAD, POST"},
    {"/orders/totals", false, shop_orders_totals, NULL, "GET, HEAD"},
    {"/orders/", true, shop_orders_get, NULL, "GET, HEAD"},
    {"/products", false, shop_products_list, shop_products_create, "GET, HEAD, POST"},
    {"/products/", true, shop_products_get, NULL, "GET, HEAD"},
};

/* A request while its body arrives. */
struct upload {
    char *data;
    size_t len;
    bool too_large;
};

static const char *
title_of(unsigned status)
{
    const char *phrase = MHD_get_reason_phrase_for(status);
    return phrase != NULL ? phrase : "Error";
}

void
shop_json(struct shop_reply *reply, unsigned status, const char *text)
{
    reply->status = status;
    reply->type = "application/json";
    reply->body = strdup(text);
    reply->body_len = reply->body != NULL ? strlen(text) : 0;
}

void
shop_problem(struct shop_reply *reply, unsigned status, const char *code, const char *pointer,
    const char *detail)
{
    json_t *problem = json_pack("{s:s, s:s, s:i, s:s, s:s}", "type", "about:blank", "title",
        title_of(status), "status", (int)status, "code", code, "detail", detail);
    if (pointer[0] != '\0')
        json_object_set_new(
            problem, "errors", json_pack("[{s:s, s:s}]", "detail", detail, "pointer", pointer));
    free(reply->body);
    reply->status = status;
    reply->type = "application/problem+json";
    reply->body = json_dumps(problem, JSON_COMPACT);
    reply->body_len = reply->body != NULL ? strlen(reply->body) : 0;
    json_decref(problem);
}

static bool
read_id(const char *text, int64_t *ret_id)
{
    size_t len = strlen(text);
    if (len == 0 || len > 18 || text[0] == '0' || strspn(text, "0123456789") != len)
        return false;
    *ret_id = strtoll(text, NULL, 10);
    return true;
}

static const struct route *
find_route(const char *path, int64_t *ret_id)
{
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        const struct route *route = &routes[i];
        size_t len = strlen(route->path);
        if (!route->has_id && strcmp(path, route->path) == 0)
            return route;
        if (route->has_id && strncmp(path, route->path, len) == 0 && read_id(path + len, ret_id))
            return route;
    }
    return NULL;
}

static void
dispatch(
    const char *method, const char *path, struct shop_request *request, struct shop_reply *reply)
{
    const struct route *route = find_route(path, &request->id);
    if (route == NULL) {
        shop_problem(reply, 404, "not-found", "", "there is nothing at this path");
        return;
    }
    bool reads = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    shop_handler *handler = reads ? route->get : strcmp(method, "POST") == 0 ? route->post : NULL;
    if (handler == NULL) {
        reply->allow = route->allow;
        shop_problem(reply, 405, "method-not-allowed", "", "this path does not know that method");
        return;
    }
    if (shop_has_tenant(request, reply))
        handler(request, reply);
}

/* Everything that each answer carries. */
static void
add_headers(struct MHD_Response *response, const struct shop_reply *reply)
{
    MHD_add_response_header(response, "Content-Type", reply->type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(
        response, "Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'");
    if (reply->location[0] != '\0')
        MHD_add_response_header(response, "Location", reply->location);
    if (reply->allow != NULL)
        MHD_add_response_header(response, "Allow", reply->allow);
    if (reply->status == 401)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (reply->status == 503)
        MHD_add_response_header(response, "Retry-After", "1");
}

static enum MHD_Result
send_reply(struct MHD_Connection *connection, struct shop_reply *reply)
{
    if (reply->body == NULL) { /* out of memory while answering */
        reply->status = 500;
        reply->type = "application/problem+json";
    }
    struct MHD_Response *response =
        reply->body != NULL
            ? MHD_create_response_from_buffer(reply->body_len, reply->body, MHD_RESPMEM_MUST_FREE)
            : MHD_create_response_from_buffer(2, (void *)"{}", MHD_RESPMEM_PERSISTENT);
    if (response == NULL) {
        free(reply->body);
        return MHD_NO;
    }
    add_headers(response, reply);
    enum MHD_Result queued = MHD_queue_response(connection, reply->status, response);
    MHD_destroy_response(response);
    return queued;
}

static const char *
header(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

static enum MHD_Result
answer(struct shop_server *server, struct MHD_Connection *connection, const char *method,
    const char *path, const struct upload *upload)
{
    struct shop_reply reply = {.status = 500, .type = "application/json"};
    struct shop_request request = {
        .pool = server->pool,
        .token = header(connection, "X-Bulkhead-Token"),
        .alias = header(connection, "X-Bulkhead-Database"),
        .by = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "by"),
        .body = upload->data != NULL ? upload->data : "",
        .body_len = upload->len,
    };
    if (upload->too_large)
        shop_problem(&reply, 413, "too-large", "", "the body is larger than 64 KiB");
    else
        dispatch(method, path, &request, &reply);
    return send_reply(connection, &reply);
}

static enum MHD_Result
take_body(struct upload *upload, const char *data, size_t *size)
{
    size_t len = *size;
    *size = 0;
    if (upload->len + len > BODY_MAX) {
        upload->too_large = true;
        return MHD_YES;
    }
    char *grown = realloc(upload->data, upload->len + len + 1);
    if (grown == NULL)
        return MHD_NO;
    memcpy(grown + upload->len, data, len);
    upload->data = grown;
    upload->len += len;
    return MHD_YES;
}

/* libmicrohttpd calls this once with the header, for each piece of the body, and at its end. */
static enum MHD_Result
on_request(void *server, struct MHD_Connection *connection, const char *path, const char *method,
    const char *version, const char *data, size_t *size, void **state)
{
    (void)version;
    struct upload *upload = *state;
    if (upload == NULL) {
        *state = calloc(1, sizeof(struct upload));
        return *state != NULL ? MHD_YES : MHD_NO;
    }
    if (*size > 0)
        return take_body(upload, data, size);
    return answer(server, connection, method, path, upload);
}

static void
on_completed(void *server, struct MHD_Connection *connection, void **state,
    enum MHD_RequestTerminationCode why)
{
    (void)server;
    (void)connection;
    (void)why;
    struct upload *upload = *state;
    if (upload != NULL)
        free(upload->data);
    free(upload);
    *state = NULL;
}

static int
open_socket(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int yes = 1;
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0 &&
        bind(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 &&
        listen(fd, SOMAXCONN) == 0)
        return fd;
    int why = errno;
    if (fd >= 0)
        close(fd);
    errno = why;
    return -1;
}

struct shop_server *
shop_server_start(const struct sockaddr_in *address, struct shop_pool *pool)
{
    struct shop_server *server = calloc(1, sizeof(*server));
    int fd = server != NULL ? open_socket(address) : -1;
    if (fd < 0) {
        free(server);
        return NULL;
    }
    server->pool = pool;
    server->daemon =
        MHD_start_daemon(MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_THREAD_PER_CONNECTION, 0, NULL,
            NULL, on_request, server, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED,
            on_completed, NULL, MHD_OPTION_CONNECTION_LIMIT, 512u, MHD_OPTION_CONNECTION_TIMEOUT,
            120u, MHD_OPTION_THREAD_STACK_SIZE, (size_t)(256 * 1024), MHD_OPTION_END);
    if (server->daemon != NULL)
        return server;
    close(fd);
    free(server);
    errno = EAGAIN;
    return NULL;
}

void
shop_server_stop(struct shop_server *server)
{
    MHD_stop_daemon(server->daemon);
    free(server);
}
