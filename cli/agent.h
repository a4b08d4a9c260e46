/* Running bulkhead-agent, which starts and stops the local set-up (doc/contract/local.md). */
#ifndef BH_CLI_AGENT_H
#define BH_CLI_AGENT_H

#include "cli/cli.h"
#include "cli/state.h"

/**
 * bh_agent_start(cli, state):
 * Start everything, or what changed, with progress on stderr.  Returns 0 once
 * all is ready, else the exit code; all was said.
 */
int bh_agent_start(const struct bh_cli *cli, const struct bh_state *state);

/** bh_agent_stop(state): stop everything and wait until it is gone.  Returns the exit code. */
int bh_agent_stop(const struct bh_state *state);

#endif
