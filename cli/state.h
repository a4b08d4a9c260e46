/*
 * Where the local set-up keeps its state, and what this program may read of it.
 */
#ifndef BH_CLI_STATE_H
#define BH_CLI_STATE_H

#include <limits.h>
#include <stdbool.h>

#include "cli/cli.h"

enum bh_port {
    BH_PORT_EDGE,
    BH_PORT_CONTROL,
    BH_PORT_POSTGRES,
    BH_PORT_PGBOUNCER,
    BH_PORT_APP,
    BH_PORT_AGENT,
    BH_PORT_EDGE_TLS,
    BH_PORT_REDIS,
    BH_PORT_COUNT
};

/* A port's option (with its environment variable), its member in settings.json, its default. */
struct bh_port_row {
    enum bh_option option;
    const char *setting;
    long fallback;
};
extern const struct bh_port_row bh_port_rows[BH_PORT_COUNT];

struct bh_state {
    char path[PATH_MAX]; /* absolute */
    bool exists;         /* something was set up there: there are settings */
    long ports[BH_PORT_COUNT];
    char base_domain[256]; /* of the last `up`; empty: not known */
};

/**
 * bh_state_find(cli, ret_state, err):
 * --state, BULKHEAD_STATE, else /var/lib/bulkhead for root, else
 * $XDG_STATE_HOME/bulkhead or ~/.local/state/bulkhead; ports from
 * etc/settings.json there, else from the environment, else the defaults.
 * BH_E_CONFIG where no directory can be named or the settings are broken,
 * BH_E_NOT_PERMITTED where they cannot be read.
 */
enum bh_code bh_state_find(
    const struct bh_cli *cli, struct bh_state *ret_state, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_state_read(state, name, arena, ret_text, err):
 * The content of the file ${name} below the state directory, NUL-terminated
 * (at most 1 MiB).  BH_E_NOT_FOUND, BH_E_NOT_PERMITTED.
 */
enum bh_code bh_state_read(const struct bh_state *state, const char *name, struct bh_arena *arena,
    char **ret_text, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_state_tool(name, ret_path, err):
 * The absolute path of ${name} relative to the directory that this program's
 * own directory is in: "bin/bulkhead-agent", "share/bulkhead/examples/tenants".
 */
enum bh_code bh_state_tool(
    const char *name, char ret_path[PATH_MAX], struct bh_error *err) BH_MUSTCHECK;

#endif
