/*
 * The smoke test: does the tenant really answer through the edge?
 *
 * As a visitor it asks for `/`, as a user of the tenant for `/orders`, which
 * reads a row: edge, application, pooler, database and both tokens must be right.
 */
#ifndef BH_ENGINE_EDGE_SMOKE_H
#define BH_ENGINE_EDGE_SMOKE_H

#include <stdbool.h>

#include "core/error.h"

struct bh_smoke {
    const char *edge_url; /* "http://127.0.0.1:7080" */
    const char *host;     /* "acme.localhost" */
    const char *token;    /* a user token of the tenant */
    long timeout_ms;      /* of each request */
    bool guarded;         /* the tenant's policy may refuse both requests */
};

/**
 * bh_smoke_run(smoke, err):
 * BH_OK where both answers are 200; of a guarded tenant only `/` is asked for, and 401 and 403
 * are right too: the edge knows the tenant and its policy.  BH_E_UNAVAILABLE where trying again may
 * help (no connection, 401, 404, 429, 5xx: an edge that is a little behind);
 * BH_E_ENGINE for any other answer.  The detail says what came back, never the token.
 */
enum bh_code bh_smoke_run(const struct bh_smoke *smoke, struct bh_error *err) BH_MUSTCHECK;

#endif
