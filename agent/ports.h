/* Which of our ports somebody else holds. */
#ifndef BH_AGENT_PORTS_H
#define BH_AGENT_PORTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/error.h"

/** bh_port_free(port): can 127.0.0.1:<port> be listened on now? */
bool bh_port_free(uint16_t port);

/**
 * bh_port_holder(port):
 * The pid of a process that listens on <port> of 127.0.0.1 or of any address;
 * 0 where /proc does not let us see it.
 */
pid_t bh_port_holder(uint16_t port);

/**
 * bh_port_taken(port, what, flag, err):
 * Fail with BH_E_CONFIG: names port, component ${what}, the holder where it can
 * be seen, and ${flag} as the way out.
 */
enum bh_code bh_port_taken(uint16_t port, const char *what, const char *flag, struct bh_error *err);

#endif
