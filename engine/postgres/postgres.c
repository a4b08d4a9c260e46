#include "engine/postgres/postgres.h"

#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "engine/postgres/sql.h"

#define CONNECT_TIMEOUT_S 5
/* A backend remembers every table that it ever saw; a fresh one now and then bounds that. */
#define USES_MAX 200

void
bh_postgres_close(struct bh_postgres *postgres)
{
    PQfinish(postgres->conn);
    postgres->conn = NULL;
    postgres->uses = 0;
}

/* An idle connection has nothing to say; one that can be read was closed by the server. */
static bool
is_usable(const struct bh_postgres *postgres, const char *database)
{
    struct pollfd fd = {.fd = PQsocket(postgres->conn), .events = POLLIN};
    if (strcmp(postgres->database, database) != 0 || postgres->uses >= USES_MAX)
        return false;
    if (PQstatus(postgres->conn) != CONNECTION_OK ||
        PQtransactionStatus(postgres->conn) != PQTRANS_IDLE)
        return false;
    return poll(&fd, 1, 0) == 0 ||
           (PQconsumeInput(postgres->conn) && PQstatus(postgres->conn) == CONNECTION_OK);
}

/* Ends what a frozen worker left open, so that its lock on a tenant's row does not outlive it. */
static const char session_settings[] = "SET idle_in_transaction_session_timeout = '10s';"
                                       "SET statement_timeout = '60s'; SET lock_timeout = '3s';"
                                       "SET standard_conforming_strings = on";

enum bh_code
bh_postgres_use(struct bh_postgres *postgres, const char *database, struct bh_error *err)
{
    if (postgres->conn && is_usable(postgres, database)) {
        postgres->uses++;
        return BH_OK;
    }
    bh_postgres_close(postgres);
    if ((size_t)snprintf(postgres->database, sizeof(postgres->database), "%s", database) >=
        sizeof(postgres->database))
        return bh_fail(err, BH_E_INVALID, "a database name has more than 63 bytes");
    BH_TRY(bh_sql_connect(postgres->conninfo, database, CONNECT_TIMEOUT_S, &postgres->conn, err));
    enum bh_code code = bh_sql_script(postgres->conn, session_settings, err);
    if (code != BH_OK)
        bh_postgres_close(postgres);
    return code;
}
