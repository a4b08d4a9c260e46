#include "engine/postgres/sql.h"

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "core/str.h"

/* Messages of the server go into errors; libraries print nothing. */
static void
ignore_notice(void *arg, const char *message)
{
    (void)arg;
    (void)message;
}

/* The text without the newline that libpq puts at its end, cut at the first line. */
static int
first_line(const char *text)
{
    return (int)strcspn(text, "\n");
}

/* A refusal that goes by itself: the message is all that libpq 15 tells about a failed start. */
static bool
passes_by_itself(const char *message)
{
    static const char *const signs[] = {"too many", "remaining connection slots", "starting up",
        "shutting down", "in recovery", "not yet accepting"};
    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++)
        if (strstr(message, signs[i]))
            return true;
    return false;
}

/* The server speaks and says no, and will say so again: asking once more does not help. */
static bool
refused_for_good(PGconn *conn)
{
    const char *message = PQerrorMessage(conn);
    if (PQconnectionNeedsPassword(conn) || PQconnectionUsedPassword(conn))
        return !passes_by_itself(message);
    return strstr(message, "FATAL:") && !passes_by_itself(message);
}

static int64_t
clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Until libpq can give a result without waiting; past the deadline it shall find a broken
 * connection. */
static void
wait_for_result(PGconn *conn, int64_t deadline_ms)
{
    while (PQisBusy(conn)) {
        struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN};
        int64_t left = deadline_ms - clock_ms();
        if (left <= 0 || poll(&fd, 1, (int)left) == 0)
            (void)shutdown(fd.fd, SHUT_RDWR);
        if (!PQconsumeInput(conn))
            return;
    }
}

PGresult *
bh_sql_send(PGconn *conn, const struct bh_sql_call *call)
{
    int64_t deadline_ms = clock_ms() + call->timeout_ms;
    PGresult *result = NULL;
    PGresult *next;
    if (!PQsendQueryParams(conn, call->sql, call->count, NULL, call->params, NULL, NULL, 0))
        return NULL;
    do {
        wait_for_result(conn, deadline_ms);
        next = PQgetResult(conn);
        if (next) {
            PQclear(result);
            result = next;
        }
    } while (next);
    return result;
}

enum bh_code
bh_sql_open(const char *conninfo, const char *database, int timeout_s, PGconn **ret_conn,
    struct bh_error *err)
{
    char timeout[16];
    snprintf(timeout, sizeof(timeout), "%d", timeout_s);
    /* The first dbname is expanded as a connection string; what follows wins over its parts. */
    const char *keys[] = {"dbname", "connect_timeout", "client_encoding",
        "fallback_application_name", database ? "dbname" : NULL, NULL};
    const char *values[] = {conninfo, timeout, "UTF8", "bulkhead", database, NULL};
    PGconn *conn = PQconnectdbParams(keys, values, 1);
    if (!conn)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for a connection to PostgreSQL");
    PQsetNoticeProcessor(conn, ignore_notice, NULL);
    if (PQstatus(conn) != CONNECTION_OK) {
        const char *message = PQerrorMessage(conn);
        enum bh_code code = refused_for_good(conn) ? BH_E_CONFIG : BH_E_UNAVAILABLE;
        bh_fail(err, code, "cannot connect to PostgreSQL: %.*s", first_line(message), message);
        PQfinish(conn);
        return code;
    }
    *ret_conn = conn;
    return BH_OK;
}

enum bh_code
bh_sql_connect(const char *conninfo, const char *database, int timeout_s, PGconn **ret_conn,
    struct bh_error *err)
{
    PGconn *conn;
    BH_TRY(bh_sql_open(conninfo, database, timeout_s, &conn, err));
    const struct bh_sql_call pin = {
        .sql = "SET search_path = pg_catalog", .timeout_ms = timeout_s * 1000};
    enum bh_code code = bh_sql_call(conn, &pin, NULL, err);
    if (code != BH_OK) {
        PQfinish(conn);
        return code;
    }
    *ret_conn = conn;
    return BH_OK;
}

static enum bh_code
code_of_sqlstate(const char *state)
{
    static const struct {
        const char *prefix;
        enum bh_code code;
    } table[] = {
        {"08", BH_E_UNAVAILABLE},  /* connection exception */
        {"57P", BH_E_UNAVAILABLE}, /* shutdown, crash, cannot connect now */
        {"53", BH_E_UNAVAILABLE},  /* out of disk, memory, connections */
        {"40", BH_E_CONFLICT},     /* serialization failure, deadlock */
        {"55P03", BH_E_CONFLICT},  /* lock not available */
        {"57014", BH_E_TIMEOUT},   /* statement timeout or cancel */
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (strncmp(state, table[i].prefix, strlen(table[i].prefix)) == 0)
            return table[i].code;
    if (strncmp(state, "TN", 2) == 0)
        for (int code = 1; code < BH_CODE_COUNT; code++)
            if (strcmp(bh_code_sqlstate((enum bh_code)code), state) == 0)
                return (enum bh_code)code;
    return BH_E_ENGINE;
}

static enum bh_code
fail_with_result(PGconn *conn, const PGresult *result, struct bh_error *err)
{
    const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    const char *message = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    if (!state || PQstatus(conn) != CONNECTION_OK) {
        const char *why = message ? message : PQerrorMessage(conn);
        return bh_fail(
            err, BH_E_UNAVAILABLE, "connection to PostgreSQL broke: %.*s", first_line(why), why);
    }
    return bh_fail(err, code_of_sqlstate(state), "PostgreSQL says %s: %s", state,
        message ? message : "no message");
}

static bool
is_success(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

/* Give or clear ${result}, or say why it is none. */
static enum bh_code
take_result(PGconn *conn, PGresult *result, PGresult **ret_result, struct bh_error *err)
{
    if (!is_success(result)) {
        enum bh_code code = fail_with_result(conn, result, err);
        PQclear(result);
        return code;
    }
    if (ret_result)
        *ret_result = result;
    else
        PQclear(result);
    return BH_OK;
}

enum bh_code
bh_sql_exec(PGconn *conn, const char *sql, int count, const char *const *params,
    PGresult **ret_result, struct bh_error *err)
{
    return take_result(
        conn, PQexecParams(conn, sql, count, NULL, params, NULL, NULL, 0), ret_result, err);
}

enum bh_code
bh_sql_call(
    PGconn *conn, const struct bh_sql_call *call, PGresult **ret_result, struct bh_error *err)
{
    return take_result(conn, bh_sql_send(conn, call), ret_result, err);
}

/* COPY in a script waits for data that will not come; end it so that the connection is usable. */
static enum bh_code
refuse_copy(PGconn *conn, const PGresult *result, struct bh_error *err)
{
    if (PQresultStatus(result) == PGRES_COPY_IN) {
        PQputCopyEnd(conn, "COPY FROM STDIN is not possible here");
    } else {
        char *data;
        while (PQgetCopyData(conn, &data, 0) > 0)
            PQfreemem(data);
    }
    return bh_fail(err, BH_E_ENGINE, "COPY to or from the client is not possible in a script");
}

enum bh_code
bh_sql_script(PGconn *conn, const char *sql, struct bh_error *err)
{
    if (!PQsendQuery(conn, sql))
        return fail_with_result(conn, NULL, err);
    enum bh_code code = BH_OK;
    PGresult *result;
    while ((result = PQgetResult(conn))) {
        ExecStatusType status = PQresultStatus(result);
        bool copies = status == PGRES_COPY_IN || status == PGRES_COPY_OUT;
        if (copies && code == BH_OK)
            code = refuse_copy(conn, result, err);
        else if (code == BH_OK && status != PGRES_EMPTY_QUERY && !is_success(result))
            code = fail_with_result(conn, result, err);
        PQclear(result);
        if (PQstatus(conn) != CONNECTION_OK)
            break;
    }
    if (code == BH_OK && PQstatus(conn) != CONNECTION_OK)
        return fail_with_result(conn, NULL, err);
    return code;
}

static void
quote(struct bh_buf *out, const char *text, char mark)
{
    bh_buf_putc(out, mark);
    for (const char *c = text; *c; c++) {
        if (*c == mark)
            bh_buf_putc(out, mark);
        bh_buf_putc(out, *c);
    }
    bh_buf_putc(out, mark);
}

void
bh_sql_name(struct bh_buf *out, const char *name)
{
    quote(out, name, '"');
}

void
bh_sql_literal(struct bh_buf *out, const char *text)
{
    quote(out, text, '\'');
}
