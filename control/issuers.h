/*
 * Keeps the keys of issuers fresh: a thread that fetches what is due, publishes what changed, and
 * keeps the last good keys where a fetch fails.  Several daemons share the work.  It also revokes
 * the API keys of tenants that are gone.
 */
#ifndef BH_CONTROL_ISSUERS_H
#define BH_CONTROL_ISSUERS_H

#include <stdbool.h>

#include "core/error.h"

/* Strings are borrowed for its life. */
struct bh_issuers_config {
    const char *registry; /* conninfo */
    const char *ca_file;  /* PEM of who vouches for issuers' servers; NULL: the system's */
    bool private_allowed; /* issuers in networks that are not public */
};

struct bh_issuers;

/** bh_issuers_start(config, ret_issuers, err) / bh_issuers_stop(issuers): stop ends a fetch
 * that runs; NULL is fine. */
enum bh_code bh_issuers_start(const struct bh_issuers_config *config,
    struct bh_issuers **ret_issuers, struct bh_error *err) BH_MUSTCHECK;
void bh_issuers_stop(struct bh_issuers *issuers);

#endif
