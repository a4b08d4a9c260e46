/* Example rows of an example tenant, written once, as that tenant. */
#ifndef BH_AGENT_SEED_H
#define BH_AGENT_SEED_H

#include <stdbool.h>

#include "agent/site.h"
#include "core/error.h"
#include "core/str.h"

/**
 * bh_seed_run(site, tenant, token, ret_seeded, err):
 * Run examples/tenants/<tenant>/seed.sql through the pooler in one transaction
 * that ${token}, a job token of ${tenant}, is bound to.  ${ret_seeded} is false
 * where it was done before or the tenant has products.  BH_E_NOT_FOUND where
 * there is no such file; BH_E_TOKEN_INVALID.
 */
enum bh_code bh_seed_run(const struct bh_site *site, struct bh_str tenant, struct bh_str token,
    bool *ret_seeded, struct bh_error *err) BH_MUSTCHECK;

#endif
