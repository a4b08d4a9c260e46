/*
 * bulkheadd: the control plane's daemon.
 *
 * Reads its secrets, brings the registry up to date, then serves the REST
 * interface and runs flows until SIGTERM.  Several may share one registry.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bh_config.h"
#include "control/api/api.h"
#include "control/api/log.h"
#include "control/db.h"
#include "control/failpoint.h"
#include "control/flow/flow.h"
#include "control/registry/registry.h"
#include "core/codec.h"

#define API_WORKERS 6
#define FLOW_WORKERS_MAX 32
#define START_TRIES 120 /* half a second apart: PostgreSQL may still be starting */
#define ENDPOINTS_MAX 64
#define FILE_BYTES_MAX 65536

enum option_id {
    OPT_LISTEN,
    OPT_REGISTRY,
    OPT_SERVER,
    OPT_MASTER_KEY,
    OPT_PRINCIPALS,
    OPT_APP_MIGRATIONS,
    OPT_ENDPOINTS,
    OPT_EDGE_URL,
    OPT_BASE_DOMAIN,
    OPT_CELL,
    OPT_STATE,
    OPT_WORKERS,
    OPT_LEASE_MS,
    OPT_COUNT
};

static const struct {
    const char *name;
    const char *value;     /* what it is called in the help */
    const char *otherwise; /* NULL: required */
    const char *help;
} options[OPT_COUNT] = {
    [OPT_LISTEN] = {"listen", "ADDRESS:PORT", "127.0.0.1:7070",
        "where to serve the REST interface"},
    [OPT_REGISTRY] = {"registry", "CONNINFO", NULL,
        "libpq connection of the registry (password: PGPASSFILE)"},
    [OPT_SERVER] = {"server", "CONNINFO", NULL,
        "superuser on the cell's PostgreSQL server, without a database"},
    [OPT_MASTER_KEY] = {"master-key", "FILE", NULL, "64 hexadecimal digits, for the owner only"},
    [OPT_PRINCIPALS] = {"principals", "FILE", NULL,
        "lines: id, operator or agent, cell or -, SHA-256 of the token"},
    [OPT_APP_MIGRATIONS] = {"app-migrations", "DIR", NULL,
        "numbered .sql files of the application"},
    [OPT_ENDPOINTS] = {"endpoints", "\"HOST:PORT …\"", NULL, "where the application listens"},
    [OPT_EDGE_URL] = {"edge-url", "URL", "http://127.0.0.1:7080",
        "the edge, for the smoke test and tenants' URLs"},
    [OPT_BASE_DOMAIN] = {"base-domain", "DOMAIN", "localhost", "tenants are <id>.<domain>"},
    [OPT_CELL] = {"cell", "NAME", "main", "the cell whose tenants this daemon serves"},
    [OPT_STATE] = {"state", "DIR", NULL, "state directory; its run/ takes temporary files"},
    [OPT_WORKERS] = {"workers", "N", "2", "threads that run flows, 1 to 32"},
    [OPT_LEASE_MS] = {"lease-ms", "N", "10000", "how long a flow is leased, 300 to 600000"},
};

/* Everything that the daemon holds. */
struct daemon {
    const char *values[OPT_COUNT];
    char *endpoints[ENDPOINTS_MAX + 1]; /* words of endpoint_text */
    char *endpoint_text;
    uint64_t workers;
    uint64_t lease_ms;
    uint64_t edge_port;
    struct bh_key master;
    char *principals; /* text of the file */
    struct bh_db_pool *api_pool;
    struct bh_db_pool *flow_pool;
    struct bh_api *api;
    struct bh_flow *flow;
};

static void
print_help(void)
{
    (void)printf("Usage: bulkheadd [OPTION]...\nThe control plane of Bulkhead.\n\n");
    for (size_t i = 0; i < OPT_COUNT; i++)
        (void)printf("  --%s %s\n        %s%s%s%s\n", options[i].name, options[i].value,
            options[i].help, options[i].otherwise == NULL ? " (required" : " (default ",
            options[i].otherwise == NULL ? "" : options[i].otherwise, ")");
    (void)printf("  --help, --version\n");
}

static void
fill_long_options(struct option long_options[OPT_COUNT + 3])
{
    for (int i = 0; i < OPT_COUNT; i++)
        long_options[i] = (struct option){options[i].name, required_argument, NULL, i};
    long_options[OPT_COUNT] = (struct option){"help", no_argument, NULL, OPT_COUNT};
    long_options[OPT_COUNT + 1] = (struct option){"version", no_argument, NULL, OPT_COUNT + 1};
    long_options[OPT_COUNT + 2] = (struct option){0};
}

/* Returns −1 to go on, else the exit code. */
static int
read_options(int argc, char **argv, struct daemon *d)
{
    struct option long_options[OPT_COUNT + 3];
    int choice;

    fill_long_options(long_options);
    for (size_t i = 0; i < OPT_COUNT; i++)
        d->values[i] = options[i].otherwise;
    while ((choice = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (choice == '?')
            return 64;
        if (choice == OPT_COUNT) {
            print_help();
            return 0;
        }
        if (choice == OPT_COUNT + 1) {
            (void)printf("bulkheadd %s (%s)\n", BH_VERSION, BH_COMMIT);
            return 0;
        }
        d->values[choice] = optarg;
    }
    for (size_t i = 0; i < OPT_COUNT; i++)
        if (d->values[i] == NULL) {
            (void)fprintf(stderr, "bulkheadd: --%s is required; see --help\n", options[i].name);
            return 64;
        }
    if (optind == argc)
        return -1;
    (void)fprintf(stderr, "bulkheadd: unknown argument %s; see --help\n", argv[optind]);
    return 64;
}

static enum bh_code
read_number(const struct daemon *d, enum option_id id, uint64_t least, uint64_t most,
    uint64_t *ret_number, struct bh_error *err)
{
    if (bh_str_uint(bh_str_of(d->values[id]), most, ret_number) && *ret_number >= least)
        return BH_OK;
    return bh_fail(err, BH_E_CONFIG, "--%s must be a number from %llu to %llu", options[id].name,
        (unsigned long long)least, (unsigned long long)most);
}

/* The port in "http://host:7080"; 80 where it has none. */
static enum bh_code
read_edge_port(struct daemon *d, struct bh_error *err)
{
    const char *url = d->values[OPT_EDGE_URL];
    const char *host = url + strlen("http://");
    const char *colon;
    struct bh_str port;

    d->edge_port = 80;
    if (strncmp(url, "http://", strlen("http://")) == 0 && *host != '\0') {
        colon = strrchr(host, ':');
        if (colon == NULL || strchr(colon, ']') != NULL)
            return BH_OK;
        port = (struct bh_str){colon + 1, strcspn(colon + 1, "/")};
        if (bh_str_uint(port, 65535, &d->edge_port) && d->edge_port > 0)
            return BH_OK;
    }
    return bh_fail(err, BH_E_CONFIG, "--edge-url %s is no http://HOST:PORT", url);
}

static enum bh_code
read_endpoints(struct daemon *d, struct bh_error *err)
{
    char *state = NULL;
    size_t count = 0;

    d->endpoint_text = strdup(d->values[OPT_ENDPOINTS]);
    if (d->endpoint_text == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    for (char *word = strtok_r(d->endpoint_text, " ", &state); word != NULL;
         word = strtok_r(NULL, " ", &state)) {
        if (count == ENDPOINTS_MAX)
            return bh_fail(err, BH_E_CONFIG, "--endpoints has more than %d words", ENDPOINTS_MAX);
        d->endpoints[count++] = word;
    }
    if (count == 0)
        return bh_fail(err, BH_E_CONFIG, "--endpoints is empty");
    return BH_OK;
}

/* ---- secrets ---- */

/* Read a small file that nobody but its owner may read; the caller wipes and frees. */
static enum bh_code
read_secret(const char *path, char **ret_text, struct bh_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    ssize_t len = -1;
    char *text;

    if (fd < 0 || fstat(fd, &status) != 0) {
        (void)bh_fail(err, BH_E_CONFIG, "cannot read %s: %s", path, strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        return BH_E_CONFIG;
    }
    if (!S_ISREG(status.st_mode) || (status.st_mode & 077) != 0) {
        (void)close(fd);
        (void)bh_fail(err, BH_E_CONFIG, "%s can be read by others than its owner", path);
        return bh_hint(err, "chmod 0400 %s", path);
    }
    text = malloc(FILE_BYTES_MAX + 1);
    if (text != NULL)
        len = read(fd, text, FILE_BYTES_MAX + 1);
    (void)close(fd);
    if (len >= 0 && len <= FILE_BYTES_MAX) {
        text[len] = '\0';
        *ret_text = text;
        return BH_OK;
    }
    free(text);
    return bh_fail(err, BH_E_CONFIG, "cannot read %s, or it is too large", path);
}

static enum bh_code
read_master(struct daemon *d, struct bh_error *err)
{
    char *text;
    struct bh_str digits;
    bool good;

    BH_TRY(read_secret(d->values[OPT_MASTER_KEY], &text, err));
    digits = bh_str_of(text);
    if (digits.len > 0 && digits.data[digits.len - 1] == '\n')
        digits.len--;
    good = bh_hex_decode(digits, d->master.bytes, sizeof(d->master.bytes));
    bh_wipe(text, strlen(text));
    free(text);
    if (good)
        return BH_OK;
    return bh_fail(
        err, BH_E_CONFIG, "%s does not hold 64 hexadecimal digits", d->values[OPT_MASTER_KEY]);
}

/* One line of the principals file, into the registry. */
static enum bh_code
ensure_principal(struct bh_db *db, char *line, unsigned number, struct bh_error *err)
{
    char *state = NULL;
    char *words[5];
    uint8_t hash[32];
    bool agent;

    for (size_t i = 0; i < 5; i++)
        words[i] = strtok_r(i == 0 ? line : NULL, " ", &state);
    agent = words[1] != NULL && strcmp(words[1], "agent") == 0;
    if (words[3] == NULL || words[4] != NULL || (!agent && strcmp(words[1], "operator") != 0) ||
        agent == (strcmp(words[2], "-") == 0) ||
        !bh_hex_decode(bh_str_of(words[3]), hash, sizeof(hash)))
        return bh_fail(err, BH_E_CONFIG,
            "line %u of the principals file is not `<id> operator - <hash>` or `<id> agent <cell> <hash>`",
            number);
    return bh_principal_ensure(db, words[0], words[1], agent ? words[2] : NULL, hash, err);
}

static enum bh_code
ensure_principals(struct bh_db *db, const struct daemon *d, struct bh_error *err)
{
    char *text = strdup(d->principals);
    char *state = NULL;
    unsigned number = 0;
    enum bh_code code = BH_OK;

    if (text == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    for (char *line = strtok_r(text, "\n", &state); line != NULL && code == BH_OK;
         line = strtok_r(NULL, "\n", &state))
        code = ensure_principal(db, line, ++number, err);
    free(text);
    return code;
}

/* ---- start and stop ---- */

static enum bh_code
prepare_registry(struct daemon *d, struct bh_error *err)
{
    const struct bh_install_seed seed = {
        .cell = d->values[OPT_CELL],
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
        code = ensure_principals(db, d, err);
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
start(struct daemon *d, const sigset_t *signals, struct bh_error *err)
{
    const struct bh_api_config api = {
        .listen = d->values[OPT_LISTEN],
        .registry = d->values[OPT_REGISTRY],
        .master = &d->master,
        .base_domain = d->values[OPT_BASE_DOMAIN],
        .edge_port = (unsigned)d->edge_port,
        .state_dir = d->values[OPT_STATE],
        .workers = API_WORKERS,
    };
    const struct bh_flow_config flow = {
        .server_conninfo = d->values[OPT_SERVER],
        .app_migrations = d->values[OPT_APP_MIGRATIONS],
        .edge_url = d->values[OPT_EDGE_URL],
        .base_domain = d->values[OPT_BASE_DOMAIN],
        .master = &d->master,
        .cell = d->values[OPT_CELL],
        .state_dir = d->values[OPT_STATE],
        .workers = (unsigned)d->workers,
        .lease_ms = bh_failpoint_lease_ms((int)d->lease_ms),
        .log = log_flow,
    };
    struct bh_api_config api_config = api;
    struct bh_flow_config flow_config = flow;
    unsigned flow_connections = 3 * (unsigned)d->workers + 2;

    BH_TRY(bh_db_pool_new(d->values[OPT_REGISTRY], API_WORKERS, &d->api_pool, err));
    BH_TRY(bh_db_pool_new(d->values[OPT_REGISTRY], flow_connections, &d->flow_pool, err));
    BH_TRY(wait_for_registry(d, signals, err));
    api_config.pool = d->api_pool;
    flow_config.pool = d->flow_pool;
    BH_TRY(bh_api_start(&api_config, &d->api, err));
    return bh_flow_start(&flow_config, &d->flow, err);
}

static enum bh_code
read_inputs(struct daemon *d, struct bh_error *err)
{
    BH_TRY(read_number(d, OPT_WORKERS, 1, FLOW_WORKERS_MAX, &d->workers, err));
    BH_TRY(read_number(d, OPT_LEASE_MS, 300, 600000, &d->lease_ms, err));
    BH_TRY(read_edge_port(d, err));
    BH_TRY(read_endpoints(d, err));
    BH_TRY(read_master(d, err));
    return read_secret(d->values[OPT_PRINCIPALS], &d->principals, err);
}

static void
stop(struct daemon *d)
{
    if (d->api != NULL)
        bh_api_stop(d->api);
    if (d->flow != NULL)
        bh_flow_stop(d->flow);
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
    int status = read_options(argc, argv, &d);
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
        bh_log("daemon", "ready on %s, version %s", d.values[OPT_LISTEN], BH_VERSION);
        (void)sigwait(&signals, &caught);
        bh_log("daemon", "stopping");
    } else {
        status = report(&err);
    }
    stop(&d);
    return status;
}
