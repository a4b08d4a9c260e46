#include "control/options.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "bh_config.h"
#include "core/str.h"

static const struct {
    const char *name;
    const char *value;     /* what it is called in the help */
    const char *otherwise; /* NULL: required */
    const char *help;
} table[BH_OPTION_COUNT] = {
    [BH_OPTION_LISTEN] = {"listen", "ADDRESS:PORT", "127.0.0.1:7070",
        "where to serve the REST interface"},
    [BH_OPTION_REGISTRY] = {"registry", "CONNINFO", NULL,
        "libpq connection of the registry (password: PGPASSFILE)"},
    [BH_OPTION_SERVER] = {"server", "CONNINFO", NULL,
        "superuser on the cell's PostgreSQL server, without a database"},
    [BH_OPTION_MASTER_KEY] = {"master-key", "FILE", NULL,
        "64 hexadecimal digits, for the owner only"},
    [BH_OPTION_PRINCIPALS] = {"principals", "FILE", NULL,
        "lines: id, operator or agent, cell or -, SHA-256 of the token"},
    [BH_OPTION_APP_MIGRATIONS] = {"app-migrations", "DIR", NULL,
        "numbered .sql files of the application"},
    [BH_OPTION_ENDPOINTS] = {"endpoints", "\"HOST:PORT …\"", NULL, "where the application listens"},
    [BH_OPTION_EDGE_URL] = {"edge-url", "URL", "http://127.0.0.1:7080",
        "the edge, for the smoke test and tenants' URLs"},
    [BH_OPTION_BASE_DOMAIN] = {"base-domain", "DOMAIN", "localhost", "tenants are <id>.<domain>"},
    [BH_OPTION_CELL] = {"cell", "NAME", "main", "the cell whose tenants this daemon serves"},
    [BH_OPTION_STATE] = {"state", "DIR", NULL, "state directory; its run/ takes temporary files"},
    [BH_OPTION_WORKERS] = {"workers", "N", "2", "threads that run flows, 1 to 32"},
    [BH_OPTION_LEASE_MS] = {"lease-ms", "N", "10000", "how long a flow is leased, 300 to 600000"},
    [BH_OPTION_WATCH_MS] = {"watch-ms", "N", "3000",
        "how often each database server is read, 100 to 5000"},
    [BH_OPTION_AUDIT_DAYS] = {"audit-days", "N", "365", "how long audit rows are kept, 1 to 36500"},
    [BH_OPTION_AUDIT_ROWS] = {"audit-rows", "N", "200000",
        "how many audit rows are kept, 100 to 100000000; beyond, whoever has most loses its oldest"},
    [BH_OPTION_ISSUER_CA] = {"issuer-ca", "FILE", "",
        "PEM of who vouches for the servers of issuers; empty: the system's"},
    [BH_OPTION_ISSUER_NETWORKS] = {"issuer-networks", "public|private", "public",
        "where keys of issuers may be fetched from"},
};

static void
print_help(void)
{
    (void)printf("Usage: bulkheadd [OPTION]...\nThe control plane of Bulkhead.\n\n");
    for (size_t i = 0; i < BH_OPTION_COUNT; i++)
        (void)printf("  --%s %s\n        %s%s%s%s\n", table[i].name, table[i].value, table[i].help,
            table[i].otherwise == NULL ? " (required" : " (default ",
            table[i].otherwise == NULL ? "" : table[i].otherwise, ")");
    (void)printf("  --help, --version\n");
}

static void
fill_long_options(struct option long_options[BH_OPTION_COUNT + 3])
{
    for (int i = 0; i < BH_OPTION_COUNT; i++)
        long_options[i] = (struct option){table[i].name, required_argument, NULL, i};
    long_options[BH_OPTION_COUNT] = (struct option){"help", no_argument, NULL, BH_OPTION_COUNT};
    long_options[BH_OPTION_COUNT + 1] =
        (struct option){"version", no_argument, NULL, BH_OPTION_COUNT + 1};
    long_options[BH_OPTION_COUNT + 2] = (struct option){0};
}

int
bh_options_read(int argc, char **argv, struct bh_options *ret_options)
{
    struct option long_options[BH_OPTION_COUNT + 3];
    int choice;

    fill_long_options(long_options);
    for (size_t i = 0; i < BH_OPTION_COUNT; i++)
        ret_options->values[i] = table[i].otherwise;
    while ((choice = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (choice == '?')
            return 64;
        if (choice == BH_OPTION_COUNT) {
            print_help();
            return 0;
        }
        if (choice == BH_OPTION_COUNT + 1) {
            (void)printf("bulkheadd %s (%s)\n", BH_VERSION, BH_COMMIT);
            return 0;
        }
        ret_options->values[choice] = optarg;
    }
    for (size_t i = 0; i < BH_OPTION_COUNT; i++)
        if (ret_options->values[i] == NULL) {
            (void)fprintf(stderr, "bulkheadd: --%s is required; see --help\n", table[i].name);
            return 64;
        }
    if (optind == argc)
        return -1;
    (void)fprintf(stderr, "bulkheadd: unknown argument %s; see --help\n", argv[optind]);
    return 64;
}

enum bh_code
bh_options_number(const struct bh_options *options, enum bh_option id, uint64_t least,
    uint64_t most, uint64_t *ret_number, struct bh_error *err)
{
    if (bh_str_uint(bh_str_of(options->values[id]), most, ret_number) && *ret_number >= least)
        return BH_OK;
    return bh_fail(err, BH_E_CONFIG, "--%s must be a number from %llu to %llu", table[id].name,
        (unsigned long long)least, (unsigned long long)most);
}

enum bh_code
bh_options_edge_port(const struct bh_options *options, uint64_t *ret_port, struct bh_error *err)
{
    const char *url = options->values[BH_OPTION_EDGE_URL];
    const char *host = url + strlen("http://");
    const char *colon;
    struct bh_str port;

    *ret_port = 80;
    if (strncmp(url, "http://", strlen("http://")) == 0 && *host != '\0') {
        colon = strrchr(host, ':');
        if (colon == NULL || strchr(colon, ']') != NULL)
            return BH_OK;
        port = (struct bh_str){colon + 1, strcspn(colon + 1, "/")};
        if (bh_str_uint(port, 65535, ret_port) && *ret_port > 0)
            return BH_OK;
    }
    return bh_fail(err, BH_E_CONFIG, "--edge-url %s is no http://HOST:PORT", url);
}
