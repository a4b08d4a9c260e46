/* Does a component serve?  Each asks as a client of it would, within 2 s. */
#ifndef BH_AGENT_PROBE_H
#define BH_AGENT_PROBE_H

#include <stdbool.h>

#include "agent/site.h"
#include "core/error.h"

enum bh_code bh_probe_postgres(const struct bh_site *site, struct bh_error *err);
enum bh_code bh_probe_pgbouncer(const struct bh_site *site, struct bh_error *err);
enum bh_code bh_probe_control(const struct bh_site *site, struct bh_error *err);
enum bh_code bh_probe_edge(const struct bh_site *site, struct bh_error *err);
enum bh_code bh_probe_app(const struct bh_site *site, struct bh_error *err);

/**
 * bh_prepare_postgres(site, ret_changed, err):
 * Make roles, databases and extension as they must be, and write PgBouncer's
 * list of users; ${ret_changed}: that list is another one than before.
 */
enum bh_code bh_prepare_postgres(struct bh_site *site, bool *ret_changed, struct bh_error *err);

#endif
