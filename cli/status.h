/* How the local set-up is: what `status` prints, and `up` and `down` after their work. */
#ifndef BH_CLI_STATUS_H
#define BH_CLI_STATUS_H

#include <jansson.h>

#include "cli/cli.h"
#include "cli/state.h"

/**
 * bh_status_read(cli, state):
 * The JSON of `status -o json`, from the agent, or where it is silent from
 * what it wrote down and what still runs.  Owned by the caller; NULL: out of
 * memory.
 */
json_t *bh_status_read(const struct bh_cli *cli, const struct bh_state *state);

/** bh_status_admin_url(state, arena): the superuser's libpq URI of the first shared database, with
 * its passfile, in ${arena}; NULL: out of memory. */
const char *bh_status_admin_url(const struct bh_state *state, struct bh_arena *arena);

/** bh_status_up(status): are all components up? */
bool bh_status_up(const json_t *status);

#endif
