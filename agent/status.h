/* The agent's own HTTP endpoint: /livez, /readyz, /status, /metrics, /seed (doc/contract/local.md).
 */
#ifndef BH_AGENT_STATUS_H
#define BH_AGENT_STATUS_H

#include "agent/node.h"
#include "agent/supervise.h"
#include "core/error.h"

struct bh_status {
    struct bh_node *node;
    struct bh_supervisor *supervisor; /* NULL: not embedded */
    const struct bh_site *site;       /* NULL: not embedded, so no /seed */
    uint8_t operator_sha256[32];      /* of the token that may seed */
    uint16_t port;
};

/** bh_status_start(status, err): listen on 127.0.0.1:<port> in threads of its own; ${status} is
 * borrowed for ever. */
enum bh_code bh_status_start(struct bh_status *status, struct bh_error *err) BH_MUSTCHECK;

#endif
