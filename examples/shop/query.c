#include "query.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "pool.h"

#define DEADLINE_MS 15000
#define STATEMENTS_MAX 7 /* BEGIN, enter, four, COMMIT */
#define TOKEN_MAX 1536

enum outcome { DONE, FAILED, LOST, LATE };

/* A pipeline, what came of it, and the first error in it. */
struct run {
    struct shop_statement statements[STATEMENTS_MAX];
    size_t count;
    size_t keep; /* whose result is wanted */
    bool writes;
    PGresult *result;
    char sqlstate[6];
    char message[200];
};

/* How an SQLSTATE (or its class of two) looks to the client. */
static const struct meaning {
    const char *sqlstate;
    unsigned status;
    const char *code;
    const char *detail;
} meanings[] = {
    {"TN002", 401, "token-refused", "the database refused the tenant token"},
    {"TN003", 423, "tenant-not-active", "the tenant is not active"},
    {"TN004", 503, "tenant-moved", "the tenant has just moved to another database"},
    {"23514", 422, "invalid",
        "a value breaks a rule of the shop: there may be too little in stock"},
    {"23503", 422, "invalid", "the request names something that does not exist"},
    {"22003", 422, "invalid", "a number is out of range"},
    {"25006", 403, "not-permitted", "an anonymous visitor may only read"},
    {"40", 503, "unavailable", "the request met another one; try again"},
    {"53", 503, "unavailable", "the database has too much to do"},
    {"57", 503, "unavailable", "the database is not available"},
    {"08", 503, "unavailable", "the database is not available"},
};

static int64_t
now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The next result (NULL ends a statement's) without waiting for ever for a frozen server. */
static enum outcome
next_result(PGconn *conn, int64_t deadline_ms, PGresult **ret_result)
{
    for (;;) {
        int unsent = PQflush(conn);
        if (unsent < 0)
            return LOST;
        if (!PQisBusy(conn)) {
            *ret_result = PQgetResult(conn);
            return PQstatus(conn) == CONNECTION_OK ? DONE : LOST;
        }
        int64_t left = deadline_ms - now_ms();
        struct pollfd fd = {
            .fd = PQsocket(conn), .events = (short)(unsent > 0 ? POLLIN | POLLOUT : POLLIN)};
        if (left <= 0 || poll(&fd, 1, (int)left) == 0)
            return LATE;
        if (PQconsumeInput(conn) == 0)
            return LOST;
    }
}

/* The server said that this connection ends: the same as its end. */
static bool
says_goodbye(const char *sqlstate)
{
    return strncmp(sqlstate, "57P0", 4) == 0 || strncmp(sqlstate, "08", 2) == 0;
}

static void
note_error(struct run *run, const PGresult *result)
{
    if (run->sqlstate[0] != '\0')
        return;
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    /* PgBouncer and libpq itself give errors without SQLSTATE: the connection is gone. */
    snprintf(run->sqlstate, sizeof(run->sqlstate), "%s", sqlstate != NULL ? sqlstate : "08006");
    snprintf(run->message, sizeof(run->message), "%s", message != NULL ? message : "");
}

static void
take_result(struct run *run, size_t position, PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_FATAL_ERROR)
        note_error(run, result);
    if (position == run->keep && (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)) {
        PQclear(run->result);
        run->result = result;
        return;
    }
    PQclear(result);
}

static enum outcome
receive(PGconn *conn, struct run *run)
{
    int64_t deadline = now_ms() + DEADLINE_MS;
    size_t position = 0;
    for (;;) {
        PGresult *result = NULL;
        enum outcome outcome = next_result(conn, deadline, &result);
        bool synced = result != NULL && PQresultStatus(result) == PGRES_PIPELINE_SYNC;
        if (result == NULL)
            position++;
        else
            take_result(run, position, result);
        if (outcome != DONE)
            return outcome;
        if (synced)
            break;
    }
    if (run->sqlstate[0] == '\0')
        return DONE;
    return says_goodbye(run->sqlstate) ? LOST : FAILED;
}

static bool
send_all(PGconn *conn, const struct run *run)
{
    if (PQenterPipelineMode(conn) == 0)
        return false;
    for (size_t i = 0; i < run->count; i++) {
        const struct shop_statement *s = &run->statements[i];
        if (PQsendQueryParams(conn, s->sql, s->count, NULL, s->params, NULL, NULL, 0) == 0)
            return false;
    }
    return PQpipelineSync(conn) == 1;
}

/* A pipeline that failed inside BEGIN leaves the transaction open. */
static void
roll_back(PGconn *conn)
{
    int64_t deadline = now_ms() + DEADLINE_MS;
    if (PQtransactionStatus(conn) == PQTRANS_IDLE || PQsendQuery(conn, "ROLLBACK") == 0)
        return;
    PGresult *result = NULL;
    while (next_result(conn, deadline, &result) == DONE && result != NULL)
        PQclear(result);
}

static enum outcome
run_on(PGconn *conn, struct run *run)
{
    run->sqlstate[0] = '\0';
    enum outcome outcome = send_all(conn, run) ? receive(conn, run) : LOST;
    if (outcome == DONE || outcome == FAILED) {
        PQexitPipelineMode(conn);
        roll_back(conn);
    }
    return outcome;
}

static void
explain(const struct run *run, struct shop_reply *reply)
{
    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
        const struct meaning *m = &meanings[i];
        if (strncmp(run->sqlstate, m->sqlstate, strlen(m->sqlstate)) != 0)
            continue;
        shop_problem(reply, m->status, m->code, "", m->detail);
        return;
    }
    fprintf(stderr, "bulkhead-shop: SQLSTATE %s: %s\n", run->sqlstate, run->message);
    shop_problem(reply, 500, "internal", "", "the shop could not do this; its log says why");
}

/* Only what certainly did nothing may be done again. */
static bool
may_repeat(const struct run *run, enum outcome outcome)
{
    if (outcome == LOST)
        return !run->writes;
    return outcome == FAILED && strcmp(run->sqlstate, "TN004") == 0;
}

static void
answer_failure(const struct run *run, enum outcome outcome, struct shop_reply *reply)
{
    if (outcome == FAILED)
        explain(run, reply);
    else if (outcome == LATE)
        shop_problem(reply, 504, "timeout", "", "the database took too long");
    else if (run->writes)
        shop_problem(reply, 503, "unavailable", "",
            "the connection to the database was lost; look before you repeat this request");
    else
        shop_problem(reply, 503, "unavailable", "", "the connection to the database was lost");
}

static PGresult *
run_for(const struct shop_request *request, struct run *run, struct shop_reply *reply)
{
    enum outcome outcome = LOST;
    for (int attempt = 0; attempt < 2; attempt++) {
        PGconn *conn = NULL;
        enum shop_taken taken = shop_pool_take(request->pool, request->alias, attempt > 0, &conn);
        if (taken != SHOP_TAKEN) {
            shop_problem(reply, 503, "unavailable", "",
                taken == SHOP_POOL_FULL ? "all connections to the database are in use"
                                        : "the database cannot be reached");
            return NULL;
        }
        outcome = run_on(conn, run);
        shop_pool_give(request->pool, conn);
        if (outcome == DONE && run->result != NULL)
            return run->result;
        PQclear(run->result);
        run->result = NULL;
        if (!may_repeat(run, outcome))
            break;
    }
    answer_failure(run, outcome, reply);
    return NULL;
}

bool
shop_has_tenant(const struct shop_request *request, struct shop_reply *reply)
{
    const char *token = request->token != NULL ? request->token : "";
    size_t len = strlen(token);
    if (len == 0 || len > TOKEN_MAX ||
        strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") != len) {
        shop_problem(reply, 401, "token-refused", "", "the request has no valid X-Bulkhead-Token");
        return false;
    }
    if (request->alias != NULL && shop_alias_ok(request->alias))
        return true;
    shop_problem(reply, 400, "bad-request", "", "the request has no valid X-Bulkhead-Database");
    return false;
}

PGresult *
shop_read(const struct shop_request *request, const struct shop_statement *statement,
    struct shop_reply *reply)
{
    struct run run = {.statements = {{"SELECT bulkhead.enter($1)", 1, &request->token}, *statement},
        .count = 2,
        .keep = 1};
    return run_for(request, &run, reply);
}

void
shop_answer(PGresult *result, const char *missing, struct shop_reply *reply)
{
    if (result == NULL)
        return;
    if (PQntuples(result) == 1)
        shop_json(reply, 200, PQgetvalue(result, 0, 0));
    else
        shop_problem(reply, 404, "not-found", "", missing);
    PQclear(result);
}

PGresult *
shop_write(const struct shop_request *request, const struct shop_statement *statements,
    size_t count, struct shop_reply *reply)
{
    struct run run = {
        .statements = {{"BEGIN", 0, NULL}, {"SELECT bulkhead.enter($1)", 1, &request->token}},
        .count = count + 3,
        .keep = count + 1,
        .writes = true};
    memcpy(&run.statements[2], statements, count * sizeof(*statements));
    run.statements[count + 2] = (struct shop_statement){"COMMIT", 0, NULL};
    return run_for(request, &run, reply);
}
