/* One agent for one state directory. */
#ifndef BH_AGENT_LOCK_H
#define BH_AGENT_LOCK_H

#include <stdbool.h>

#include "agent/site.h"
#include "core/error.h"

/**
 * bh_lock_take(site, signal, timeout_ms, ret_other, err):
 * Take `run/agent.lock`, which is held until the process ends.  Where another
 * agent holds it, send that one ${signal} and wait; BH_E_CONFLICT where it does
 * not leave.  ${ret_other}: there was one.
 */
enum bh_code bh_lock_take(const struct bh_site *site, int signal, int timeout_ms, bool *ret_other,
    struct bh_error *err) BH_MUSTCHECK;

#endif
