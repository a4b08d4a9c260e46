/*
 * The client of the control plane's (and the agent's) HTTP API.
 *
 * Speaks JSON; a problem answer (RFC 9457) becomes a struct bh_error of the
 * same code, and is kept whole for who wants its pointers.
 */
#ifndef BH_CLI_HTTP_H
#define BH_CLI_HTTP_H

#include <jansson.h>

#include "cli/cli.h"
#include "cli/state.h"

struct bh_client {
    void *curl;        /* CURL *, kept for its connection */
    const char *base;  /* without a slash at its end */
    const char *token; /* NULL: none */
    bool local;        /* on this machine: `bulkhead up` may help */
    long timeout_ms;
    struct bh_arena *arena;
};

struct bh_request {
    const char *method;
    const char *path; /* "/v1/tenants?limit=1", escaped */
    json_t *body;     /* borrowed; NULL: none */
    const char *if_match;
    bool create_only; /* If-None-Match: * */
};

struct bh_answer {
    long status;
    json_t *body; /* owned by the caller: json_decref; NULL where there is none */
};

/**
 * bh_client_open(cli, ret_client, err):
 * A client of BULKHEAD_URL with BULKHEAD_TOKEN, or of the state directory's
 * control plane with its operator.token.  That token is sent to a loopback
 * address only.  Without any token requests go without.  BH_E_CONFIG,
 * BH_E_NOT_PERMITTED.
 */
enum bh_code bh_client_open(
    const struct bh_cli *cli, struct bh_client *ret_client, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_client_local(cli, state, ret_client, err) / bh_client_agent(...):
 * A client of the control plane, of the agent of ${state}, whatever the
 * environment says.
 */
enum bh_code bh_client_local(const struct bh_cli *cli, const struct bh_state *state,
    struct bh_client *ret_client, struct bh_error *err) BH_MUSTCHECK;
enum bh_code bh_client_agent(const struct bh_cli *cli, const struct bh_state *state,
    struct bh_client *ret_client, struct bh_error *err) BH_MUSTCHECK;

/** bh_client_close(client): free its connection; twice is fine. */
void bh_client_close(struct bh_client *client);

/**
 * bh_client_call(client, request, ret_answer, err):
 * Send ${request} and wait for the answer.  An answer below 400 with a JSON
 * body (or none) is BH_OK.  A problem: its code, with detail, hint and first
 * pointer in ${err}; ${ret_answer} then holds the problem (it is written in
 * any case; body NULL where there is none).  BH_E_UNAVAILABLE where nobody
 * answers.  Returns BH_E_TIMEOUT at once when bh_interrupted() is true.
 */
enum bh_code bh_client_call(struct bh_client *client, const struct bh_request *request,
    struct bh_answer *ret_answer, struct bh_error *err) BH_MUSTCHECK;

/** bh_client_path(client, fmt, ...): a path in the arena; each %s argument must be escaped by
 * bh_client_escape. */
const char *bh_client_path(struct bh_client *client, const char *fmt, ...) BH_PRINTF(2, 3);

/** bh_client_escape(client, text): ${text} as one segment of a path or query, in the arena. */
const char *bh_client_escape(struct bh_client *client, const char *text);

/**
 * bh_problem_read(problem, status, err):
 * The JSON of a problem (as in an answer, a step or an operation) as an error;
 * ${status} decides where its code is unknown.  Returns the code.
 */
enum bh_code bh_problem_read(const json_t *problem, long status, struct bh_error *err);

/** bh_interrupts_watch() / bh_interrupted(): note SIGINT and SIGTERM from now on instead of dying;
 * the signal that came, or 0. */
void bh_interrupts_watch(void);
int bh_interrupted(void);

#endif
