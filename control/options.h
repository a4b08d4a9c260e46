/* The command line of bulkheadd: one table, from which `--help` is printed too. */
#ifndef BH_CONTROL_OPTIONS_H
#define BH_CONTROL_OPTIONS_H

#include <stdint.h>

#include "core/error.h"

enum bh_option {
    BH_OPTION_LISTEN,
    BH_OPTION_REGISTRY,
    BH_OPTION_SERVER,
    BH_OPTION_MASTER_KEY,
    BH_OPTION_PRINCIPALS,
    BH_OPTION_APP_MIGRATIONS,
    BH_OPTION_ENDPOINTS,
    BH_OPTION_EDGE_URL,
    BH_OPTION_BASE_DOMAIN,
    BH_OPTION_CELL,
    BH_OPTION_STATE,
    BH_OPTION_WORKERS,
    BH_OPTION_LEASE_MS,
    BH_OPTION_WATCH_MS,
    BH_OPTION_AUDIT_DAYS,
    BH_OPTION_AUDIT_ROWS,
    BH_OPTION_ISSUER_CA,
    BH_OPTION_ISSUER_NETWORKS,
    BH_OPTION_COUNT
};

struct bh_options {
    const char *values[BH_OPTION_COUNT]; /* of argv, or the defaults; never NULL once read */
};

/**
 * bh_options_read(argc, argv, ret_options):
 * Read the command line.  Returns −1 to go on, else the exit code: 0 after
 * --help and --version, 64 after saying on standard error what is wrong.
 */
int bh_options_read(int argc, char **argv, struct bh_options *ret_options);

/** bh_options_number(options, id, least, most, ret_number, err): the value of ${id} as a number;
 * BH_E_CONFIG. */
enum bh_code bh_options_number(const struct bh_options *options, enum bh_option id, uint64_t least,
    uint64_t most, uint64_t *ret_number, struct bh_error *err) BH_MUSTCHECK;

/** bh_options_edge_port(options, ret_port, err): the port in --edge-url; 80 where it has none;
 * BH_E_CONFIG. */
enum bh_code bh_options_edge_port(
    const struct bh_options *options, uint64_t *ret_port, struct bh_error *err) BH_MUSTCHECK;

#endif
