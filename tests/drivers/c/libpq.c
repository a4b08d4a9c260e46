/*
 * libpq: one connection that is used again and again.  What it does is in
 * ../README.md; connect(), tenant() and in_tenant() are what an application needs.
 */
#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIES 3
#define LINE 512

static const char *const tenants[] = {"acme", "globex", "initech"};

static const char *
token_of(const char *tenant)
{
    const char *const names[] = {"TOKEN_ACME", "TOKEN_GLOBEX", "TOKEN_INITECH"};

    for (size_t i = 0; i < 3; i++)
        if (strcmp(tenant, tenants[i]) == 0)
            return getenv(names[i]);
    return tenant; /* no tenant: no token */
}

/* Ask the other end to do something; it answers when it has. */
static void
ask(const char *verb, const char *what)
{
    char answer[LINE];

    printf("ask %s %s\n", verb, what);
    if (fgets(answer, sizeof(answer), stdin) == NULL || strcmp(answer, "done\n") != 0)
        exit(1);
}

/* Where an application would log a retry; the tenant that has moved can be reached again. */
static void
retrying(const char *sqlstate)
{
    if (strcmp(sqlstate, "TN004") == 0)
        ask("back", "globex");
}

/* [connect] */
/* The environment (PGHOST, PGPORT, …) or a URI says where; libpq itself sends nothing but the
 * login. */
static PGconn *
connect_pool(void)
{
    PGconn *db = PQconnectdb("");

    if (PQstatus(db) != CONNECTION_OK) {
        fprintf(stderr, "%s", PQerrorMessage(db));
        exit(1);
    }
    return db;
}

/* PQexecParams uses the unnamed statement: PgBouncer 1.18 would mix up those with a name
 * (PQprepare). */
static PGresult *
query(PGconn *db, const char *sql, const char *value)
{
    const char *values[] = {value};

    return PQexecParams(db, sql, value ? 1 : 0, NULL, values, NULL, NULL, 0);
}

/* Run ${sql}; false on an error, with its SQLSTATE in ${ret_state} ("" where the connection broke).
 */
static bool
run(PGconn *db, const char *sql, const char *value, char ret_state[6])
{
    PGresult *result = query(db, sql, value);
    ExecStatusType status = PQresultStatus(result);
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    bool ok = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;

    snprintf(ret_state, 6, "%s", !ok && state ? state : "");
    PQclear(result);
    return ok;
}

typedef bool work_fn(PGconn *db, void *arg, char ret_state[6]);

/* A transaction of the tenant whose token came with the request (X-Bulkhead-Token). */
static bool
tenant(
    PGconn *db, const char *token, const char *begin, work_fn *work, void *arg, char ret_state[6])
{
    char ignored[6];

    if (run(db, begin, NULL, ret_state) && run(db, "SELECT bulkhead.enter($1)", token, ret_state) &&
        work(db, arg, ret_state) && run(db, "COMMIT", NULL, ret_state))
        return true;
    if (PQstatus(db) == CONNECTION_OK)
        run(db, "ROLLBACK", NULL, ignored);
    return false;
}
/* [end] */

/* [retry] */
/* The tenant has moved; conflicts; the server process or the connection went away ("" where no
 * SQLSTATE came). */
static bool
try_again(PGconn *db, const char *state)
{
    const char *const retry[] = {"TN004", "40001", "40P01", "57P01", "08P01"};

    if (PQstatus(db) != CONNECTION_OK) {
        PQreset(db);
        return true;
    }
    for (size_t i = 0; i < sizeof(retry) / sizeof(*retry); i++)
        if (strcmp(state, retry[i]) == 0)
            return true;
    return false;
}

static bool
in_tenant(
    PGconn *db, const char *token, const char *begin, work_fn *work, void *arg, char ret_state[6])
{
    for (int left = TRIES; left > 0; left--) {
        if (tenant(db, token, begin, work, arg, ret_state))
            return true;
        if (!try_again(db, ret_state))
            return false;
        retrying(ret_state);
    }
    return false;
}
/* [end] */

/* ---- what a transaction does ---- */

struct seen {
    const char *tenant;
    bool wrong;
    int attempts;
};

/* All names: those that begin with "first-" must be this tenant's. */
static bool
names(PGconn *db, void *arg, char ret_state[6])
{
    struct seen *seen = arg;
    PGresult *result = query(db, "SELECT name FROM items ORDER BY id", NULL);
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    bool ok = PQresultStatus(result) == PGRES_TUPLES_OK;
    int own = 0;

    for (int i = 0; ok && i < PQntuples(result); i++) {
        const char *name = PQgetvalue(result, i, 0);

        if (strncmp(name, "first-", 6) == 0)
            strcmp(name + 6, seen->tenant) == 0 ? own++ : (seen->wrong = true);
    }
    seen->wrong = seen->wrong || (ok && own != 1);
    snprintf(ret_state, 6, "%s", !ok && state ? state : "");
    PQclear(result);
    return ok;
}

static bool
insert(PGconn *db, void *arg, char ret_state[6])
{
    return run(db, "INSERT INTO items (name) VALUES ($1)", arg, ret_state);
}

static bool
add(PGconn *db, void *arg, char ret_state[6])
{
    return run(db, "UPDATE items SET qty = qty + 1 WHERE name = $1", arg, ret_state);
}

static bool
turn(PGconn *db, void *arg, char ret_state[6])
{
    struct seen *seen = arg;
    char first[LINE];

    snprintf(first, sizeof(first), "first-%s", seen->tenant);
    return add(db, first, ret_state) && names(db, seen, ret_state);
}

/* The value of a query with one row and column; "" on an error. */
static bool
value_of(PGconn *db, const char *sql, const char *arg, char ret_value[LINE], char ret_state[6])
{
    PGresult *result = query(db, sql, arg);
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    bool ok = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;

    snprintf(ret_value, LINE, "%s", ok ? PQgetvalue(result, 0, 0) : "");
    snprintf(ret_state, 6, "%s", !ok && state ? state : "");
    PQclear(result);
    return ok;
}

static bool
name_of_first(PGconn *db, void *arg, char ret_state[6])
{
    return value_of(db, "SELECT name FROM items WHERE id = $1", "1", arg, ret_state);
}

static bool
state_of_first(PGconn *db, void *arg, char ret_state[6])
{
    return value_of(db, "SELECT state FROM items WHERE id = 1", NULL, arg, ret_state);
}

static bool
change_serial(PGconn *db, void *arg, char ret_state[6])
{
    struct seen *seen = arg;
    char ignored[6];
    PGconn *other;

    if (!names(db, seen, ret_state))
        return false;
    if (seen->attempts++ == 0) {
        other = connect_pool();
        in_tenant(other, token_of("acme"), "BEGIN", add, "serial", ignored);
        PQfinish(other);
    }
    return add(db, "serial", ret_state);
}

static bool
be_killed(PGconn *db, void *arg, char ret_state[6])
{
    struct seen *seen = arg;
    char pid[LINE];

    if (!insert(db, "killed", ret_state) ||
        !value_of(db, "SELECT pg_backend_pid()", NULL, pid, ret_state))
        return false;
    if (seen->attempts++ == 0)
        ask("kill", pid);
    return names(db, seen, ret_state);
}

/* ---- steps: NULL where all is well, else what is not ---- */

static const char *
expect(bool ok, const char *state)
{
    static _Thread_local char text[LINE];

    snprintf(text, sizeof(text), "SQLSTATE %s", state);
    return ok ? NULL : text;
}

static const char *
sees_only(PGconn *db, const char *name)
{
    char state[6];
    struct seen seen = {.tenant = name};

    if (!in_tenant(db, token_of(name), "BEGIN", names, &seen, state))
        return expect(false, state);
    return seen.wrong ? "a row that is not its own, or not its own row" : NULL;
}

static const char *
health(PGconn *db)
{
    char state[6];
    PGresult *result = PQexec(db, ""); /* costs no statement */
    bool ok = PQresultStatus(result) == PGRES_EMPTY_QUERY;

    PQclear(result);
    return expect(ok && run(db, "SELECT 1 AS one", NULL, state), ok ? state : "of the empty query");
}

static const char *
read_rows(PGconn *db)
{
    return sees_only(db, "acme");
}

static const char *
write_row(PGconn *db)
{
    char state[6];

    return expect(in_tenant(db, token_of("acme"), "BEGIN", insert, "written", state), state);
}

static const char *
constraint(PGconn *db)
{
    char state[6];

    if (in_tenant(db, token_of("acme"), "BEGIN", insert, "written", state) ||
        strcmp(state, "23505") != 0)
        return "no unique_violation";
    return sees_only(db, "globex");
}

static const char *
unbound(PGconn *db)
{
    char state[6];

    if (run(db, "SELECT name FROM items", NULL, state) ||
        (strcmp(state, "TN001") != 0 && strcmp(state, "42P01") != 0))
        return "not refused";
    return health(db);
}

static const char *
refused(PGconn *db)
{
    char state[6];

    if (in_tenant(db, "nonsense", "BEGIN", insert, "evil", state) || strcmp(state, "TN002") != 0)
        return "not refused";
    return NULL;
}

static atomic_int next_turn;

static void *
worker(void *arg __attribute__((unused)))
{
    PGconn *db = connect_pool();
    char state[6];
    int number;
    const char *wrong = NULL;

    while (!wrong &&
           (number = atomic_fetch_add(&next_turn, 1)) < (int)strtol(getenv("TURNS"), NULL, 10)) {
        struct seen seen = {.tenant = tenants[number % 3]};

        wrong = expect(in_tenant(db, token_of(seen.tenant), "BEGIN", turn, &seen, state), state);
        wrong = seen.wrong ? "a row that is not its own" : wrong;
    }
    PQfinish(db);
    return (void *)wrong;
}

static const char *
turns(PGconn *db __attribute__((unused)))
{
    pthread_t threads[4];
    void *wrong;
    const char *first = NULL;

    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, worker, NULL);
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], &wrong);
        first = wrong ? "a worker failed" : first;
    }
    return first;
}

static const char *
prepared(PGconn *db)
{
    char state[6], name[LINE], want[LINE];

    for (int i = 0; i < 24; i++) {
        snprintf(want, sizeof(want), "first-%s", tenants[i % 3]);
        if (!in_tenant(db, token_of(tenants[i % 3]), "BEGIN", name_of_first, name, state))
            return expect(false, state);
        if (strcmp(name, want) != 0)
            return "another tenant's row";
    }
    return NULL;
}

static const char *
types(PGconn *db)
{
    char state[6], value[LINE];

    if (!in_tenant(db, token_of("acme"), "BEGIN", state_of_first, value, state))
        return expect(false, state);
    return strcmp(value, "new") == 0 ? NULL : "the enum reads otherwise";
}

static const char *
moved(PGconn *db)
{
    char state[6];

    ask("move", "globex");
    return expect(in_tenant(db, token_of("globex"), "BEGIN", insert, "moved", state), state);
}

static const char *
serial(PGconn *db)
{
    char state[6];
    struct seen seen = {.tenant = "acme"};

    if (!in_tenant(db, token_of("acme"), "BEGIN ISOLATION LEVEL REPEATABLE READ", change_serial,
            &seen, state))
        return expect(false, state);
    return seen.attempts == 2 && !seen.wrong ? NULL : "the conflict did not happen";
}

static const char *
killed(PGconn *db)
{
    char state[6];
    struct seen seen = {.tenant = "acme"};

    if (!in_tenant(db, token_of("acme"), "BEGIN", be_killed, &seen, state))
        return expect(false, state);
    return seen.attempts == 2 && !seen.wrong ? NULL : "the server process was not killed";
}

static const char *
reset(PGconn *db)
{
    char state[6];
    const char *wrong;

    if (!run(db, "BEGIN", NULL, state) ||
        !run(db, "SELECT bulkhead.enter($1)", token_of("acme"), state) ||
        !run(db, "SELECT name FROM items", NULL, state))
        return expect(false, state);
    PQreset(db); /* in its transaction */
    for (int i = 0; i < 3; i++)
        if ((wrong = sees_only(db, tenants[i])) != NULL)
            return wrong;
    return NULL;
}

static const struct {
    const char *name;
    const char *(*run)(PGconn *db);
} steps[] = {{"connect", health}, {"read", read_rows}, {"write", write_row}, {"error", constraint},
    {"unbound", unbound}, {"refused", refused}, {"tenants", turns}, {"prepared", prepared},
    {"types", types}, {"moved", moved}, {"serial", serial}, {"killed", killed}, {"reset", reset},
    {"health", health}};

int
main(void)
{
    PGconn *db;
    const char *wrong;

    setvbuf(stdout, NULL, _IOLBF, 0);
    db = connect_pool();
    printf("version %d\n", PQlibVersion() / 10000);
    for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
        wrong = steps[i].run(db);
        if (wrong)
            printf("fail %s %s\n", steps[i].name, wrong);
        else
            printf("ok %s\n", steps[i].name);
    }
    PQfinish(db);
    return 0;
}
