/* All of Bulkhead on one machine: `bulkhead-agent --embedded`. */
#ifndef BH_AGENT_EMBEDDED_H
#define BH_AGENT_EMBEDDED_H

#include "agent/site.h"

/**
 * bh_embedded_start(site, notify_fd):
 * Set up, go to the background, replace an agent that runs, start or adopt the
 * children.  Returns the exit code in the process that was called, once all is
 * ready or failed; the agent itself never returns.
 */
int bh_embedded_start(struct bh_site *site, int notify_fd);

/** bh_embedded_stop(site): stop agent and children of this state; returns the exit code when all is
 * gone. */
int bh_embedded_stop(struct bh_site *site);

#endif
