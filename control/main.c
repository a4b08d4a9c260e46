/*
 * bulkheadd: the control plane's daemon.
 *
 * Reads its secrets, brings the registry up to date, then serves the REST
 * interface and runs flows until SIGTERM.  Several may share one registry.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "bh_config.h"
#include "control/api/api.h"
#include "control/api/log.h"
#include "control/db.h"
#include "control/failpoint.h"
#include "control/flow/flow.h"
#include "control/issuers.h"
#include "control/options.h"
#include "control/registry/registry.h"
#include "control/secrets.h"
#include "control/watch/watch.h"
#include "core/codec.h"
#include "core/endpoint.h"

#define API_WORKERS 6
#define FLOW_WORKERS_MAX 32
#define START_TRIES 120 /* half a second apart: PostgreSQL may still be starting */

/* Everything that the daemon holds. */
struct daemon {
    struct bh_options options;
    char *endpoints[BH_ENDPOINTS_MAX + 1]; /* words of endpoint_text */
    char *endpoint_text;
    uint64_t workers;
    uint64_t lease_ms;
    uint64_t edge_port;
    uint64_t watch_ms;
    uint64_t audit_days;
    uint64_t audit_rows;
    struct bh_key master;
    char *principals; /* text of the file */
    struct bh_db_pool *api_pool;
    struct bh_db_pool *flow_pool;
    struct bh_api *api;
    struct bh_flow *flow;
    struct bh_watch *watch;
    struct bh_issuers *issuers;
};

static enum bh_code
read_endpoints(struct daemon *d, struct bh_error *err)
{
    char *state = NULL;
    size_t count = 0;

    d->endpoint_text = strdup(d->options.values[BH_OPTION_ENDPOINTS]);
    if (d->endpoint_text == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    for (char *word = strtok_r(d->endpoint_text, " ", &state); word != NULL;
         word = strtok_r(NULL, " ", &state)) {
        if (count == BH_ENDPOINTS_MAX)
            return bh_fail(
                err, BH_E_CONFIG, "--endpoints has more than %d words", BH_ENDPOINTS_MAX);
        struct bh_endpoint endpoint;
        BH_TRY(bh_endpoint_parse(bh_str_of(word), &endpoint, err));
        d->endpoints[count++] = word;
    }
    if (count == 0)
        return bh_fail(err, BH_E_CONFIG, "--endpoints is empty");
    return BH_OK;
}

/* ---- start and stop ---- */

static enum bh_code
prepare_registry(struct daemon *d, struct bh_error *err)
{
    const struct bh_install_seed seed = {
        .cell = d->options.values[BH_OPTION_CELL],
        .server = "main",
        .database = "shared1",
        .endpoints = (const char *const *)d->endpoints,
    };
    struct bh_db *db;
    enum bh_code code;

    BH_TRY(bh_db_take(d->api_pool, &db, err));
    code = bh_db_migrate(db, err);
    if (code == BH_OK)
        code = bh_install_ensure(db, &seed, err);
    if (code == BH_OK)
        code = bh_principals_ensure(db, d->principals, err);
    bh_db_give(db);
    return code;
}

/* Wait for a signal; false where none came within ${ms}. */
static bool
signalled(const sigset_t *signals, long ms)
{
    const struct timespec wait = {ms / 1000, (ms % 1000) * 1000000};

    return sigtimedwait(signals, NULL, &wait) > 0;
}

static enum bh_code
wait_for_registry(struct daemon *d, const sigset_t *signals, struct bh_error *err)
{
    enum bh_code code = BH_E_UNAVAILABLE;

    for (int i = 0; i < START_TRIES && code == BH_E_UNAVAILABLE; i++) {
        code = prepare_registry(d, err);
        if (code != BH_E_UNAVAILABLE)
            return code;
        if (i == 0)
            bh_log("daemon", "waiting for the registry: %s", err->detail);
        if (signalled(signals, 500))
            return bh_fail(err, BH_E_UNAVAILABLE, "stopped while waiting for the registry");
    }
    return code;
}

static void
log_flow(void *arg, const char *line)
{
    (void)arg;
    bh_log("flow", "%s", line);
}

static enum bh_code
start_api(struct daemon *d, struct bh_error *err)
{
    const struct bh_api_config config = {
        .listen = d->options.values[BH_OPTION_LISTEN],
        .registry = d->options.values[BH_OPTION_REGISTRY],
        .pool = d->api_pool,
        .master = &d->master,
        .base_domain = d->options.values[BH_OPTION_BASE_DOMAIN],
        .edge_port = (unsigned)d->edge_port,
        .state_dir = d->options.values[BH_OPTION_STATE],
        .workers = API_WORKERS,
    };

    return bh_api_start(&config, &d->api, err);
}

static enum bh_code
start_flow(struct daemon *d, struct bh_error *err)
{
    const struct bh_flow_config config = {
        .pool = d->flow_pool,
        .server_conninfo = d->options.values[BH_OPTION_SERVER],
        .app_migrations = d->options.values[BH_OPTION_APP_MIGRATIONS],
        .edge_url = d->options.values[BH_OPTION_EDGE_URL],
        .base_domain = d->options.values[BH_OPTION_BASE_DOMAIN],
        .master = &d->master,
        .cell = d->options.values[BH_OPTION_CELL],
        .state_dir = d->options.values[BH_OPTION_STATE],
        .workers = (unsigned)d->workers,
        .lease_ms = bh_failpoint_lease_ms((int)d->lease_ms),
        .log = log_flow,
    };

    return bh_flow_start(&config, &d->flow, err);
}

static enum bh_code
start_watch(struct daemon *d, struct bh_error *err)
{
    const struct bh_watch_config config = {
        .registry = d->options.values[BH_OPTION_REGISTRY],
        .server = d->options.values[BH_OPTION_SERVER],
        .cell = d->options.values[BH_OPTION_CELL],
        .interval_ms = (int)d->watch_ms,
        .audit_days = (int64_t)d->audit_days,
        .audit_rows = (int64_t)d->audit_rows,
    };

    return bh_watch_start(&config, &d->watch, err);
}

static enum bh_code
start_issuers(struct daemon *d, struct bh_error *err)
{
    const char *ca = d->options.values[BH_OPTION_ISSUER_CA];
    const char *networks = d->options.values[BH_OPTION_ISSUER_NETWORKS];
    const struct bh_issuers_config config = {
        .registry = d->options.values[BH_OPTION_REGISTRY],
        .ca_file = ca[0] == '\0' ? NULL : ca,
        .private_allowed = strcmp(networks, "private") == 0,
    };

    if (!config.private_allowed && strcmp(networks, "public") != 0)
        return bh_fail(err, BH_E_CONFIG, "--issuer-networks must be public or private");
    return bh_issuers_start(&config, &d->issuers, err);
}

/* A worker and its step hold a connection each, the heartbeat one more. */
static enum bh_code
start(struct daemon *d, const sigset_t *signals, struct bh_error *err)
{
    const char *registry = d->options.values[BH_OPTION_REGISTRY];
    unsigned flow_connections = 3 * (unsigned)d->workers + 2;

    BH_TRY(bh_db_pool_new(registry, API_WORKERS, &d->api_pool, err));
    BH_TRY(bh_db_pool_new(registry, flow_connections, &d->flow_pool, err));
    BH_TRY(wait_for_registry(d, signals, err));
    BH_TRY(start_api(d, err));
    BH_TRY(start_flow(d, err));
    BH_TRY(start_watch(d, err));
    return start_issuers(d, err);
}

static enum bh_code
read_inputs(struct daemon *d, struct bh_error *err)
{
    BH_TRY(
        bh_options_number(&d->options, BH_OPTION_WORKERS, 1, FLOW_WORKERS_MAX, &d->workers, err));
    BH_TRY(bh_options_number(&d->options, BH_OPTION_LEASE_MS, 300, 600000, &d->lease_ms, err));
    BH_TRY(bh_options_number(&d->options, BH_OPTION_WATCH_MS, 100, 5000, &d->watch_ms, err));
    BH_TRY(bh_options_number(&d->options, BH_OPTION_AUDIT_DAYS, 1, 36500, &d->audit_days, err));
    BH_TRY(
        bh_options_number(&d->options, BH_OPTION_AUDIT_ROWS, 100, 100000000, &d->audit_rows, err));
    BH_TRY(bh_options_edge_port(&d->options, &d->edge_port, err));
    BH_TRY(read_endpoints(d, err));
    BH_TRY(bh_master_read(d->options.values[BH_OPTION_MASTER_KEY], &d->master, err));
    return bh_secret_read(d->options.values[BH_OPTION_PRINCIPALS], &d->principals, err);
}

static void
stop(struct daemon *d)
{
    if (d->api != NULL)
        bh_api_stop(d->api);
    if (d->flow != NULL)
        bh_flow_stop(d->flow);
    if (d->watch != NULL)
        bh_watch_stop(d->watch);
    bh_issuers_stop(d->issuers);
    bh_db_pool_free(d->api_pool); /* the other one may still be in a worker's hands */
    bh_wipe(&d->master, sizeof(d->master));
    free(d->principals);
    free(d->endpoint_text);
}

static int
report(const struct bh_error *err)
{
    (void)fprintf(stderr, "bulkheadd: %s\n", err->detail);
    if (err->hint[0] != '\0')
        (void)fprintf(stderr, "bulkheadd: %s\n", err->hint);
    return bh_code_exit(err->code);
}

int
main(int argc, char **argv)
{
    static struct daemon d;
    struct bh_error err;
    sigset_t signals;
    int status = bh_options_read(argc, argv, &d.options);
    int caught;

    if (status >= 0)
        return status;
#ifndef __SANITIZE_ADDRESS__         /* the leak checker attaches to the process */
    (void)prctl(PR_SET_DUMPABLE, 0); /* keys are in this memory: no core, no ptrace by others */
#endif
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before any thread starts */
    (void)signal(SIGPIPE, SIG_IGN);
    status = 0;
    if (read_inputs(&d, &err) == BH_OK && start(&d, &signals, &err) == BH_OK) {
        bh_log("daemon", "ready on %s, version %s", d.options.values[BH_OPTION_LISTEN], BH_VERSION);
        (void)sigwait(&signals, &caught);
        bh_log("daemon", "stopping");
    } else {
        status = report(&err);
    }
    stop(&d);
    return status;
}
