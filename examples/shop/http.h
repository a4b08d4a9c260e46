/*
 * The web server of the shop: one thread per connection (nginx keeps few and
 * reuses them), a table of routes, answers in JSON or HTML.
 */
#ifndef SHOP_HTTP_H
#define SHOP_HTTP_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shop_pool;

/* What a handler may know of a request; all strings are borrowed for the call. */
struct shop_request {
    struct shop_pool *pool;
    const char *token; /* X-Bulkhead-Token: whose rows; NULL where absent */
    const char *alias; /* X-Bulkhead-Database: where they live; NULL where absent */
    const char *by;    /* ?by= */
    int64_t id;        /* of /orders/{id} */
    const char *body;
    size_t body_len;
};

/* The answer; ${body} is malloc'ed and goes to the server. */
struct shop_reply {
    unsigned status;
    const char *type;
    char *body;
    size_t body_len;
    char location[64]; /* empty: none */
    const char *allow; /* of a 405, else NULL */
};

typedef void shop_handler(const struct shop_request *request, struct shop_reply *reply);

/** shop_json(reply, status, text): answer with a copy of the JSON text. */
void shop_json(struct shop_reply *reply, unsigned status, const char *text);

/**
 * shop_problem(reply, status, code, pointer, detail):
 * Answer application/problem+json; ${pointer} names the wrong member ("" for none).
 */
void shop_problem(struct shop_reply *reply, unsigned status, const char *code, const char *pointer,
    const char *detail);

struct shop_server;

/**
 * shop_server_start(address, pool):
 * Serve on ${address}, with rows from ${pool}.  NULL with errno set where it cannot.
 */
struct shop_server *shop_server_start(const struct sockaddr_in *address, struct shop_pool *pool);

/** shop_server_stop(server): let running requests end, then free. */
void shop_server_stop(struct shop_server *server);

#endif
