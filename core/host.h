/* Which tenant a Host header names. */
#ifndef BH_CORE_HOST_H
#define BH_CORE_HOST_H

#include "core/error.h"
#include "core/str.h"
#include "core/tenant.h"

/**
 * bh_host_tenant(host, base_domain, ret_id, ret_len, err):
 * Write the tenant id that ${host} names under ${base_domain} (lower case, no
 * dots at the ends) to ${ret_id}: lower-cased, without what follows the last
 * colon and without one trailing dot, exactly one label before the base
 * domain.  BH_E_TENANT_MISSING for an empty host, an IP address (v4, or
 * bracketed v6) or the base domain itself; BH_E_TENANT_UNKNOWN for a foreign
 * domain or a label that can name no tenant.  Whether the tenant exists is the
 * caller's to look up.
 */
enum bh_code bh_host_tenant(struct bh_str host, struct bh_str base_domain,
    char ret_id[BH_TENANT_ID_MAX + 1], size_t *ret_len, struct bh_error *err) BH_MUSTCHECK;

/** bh_host_same(a, b): do two spellings, with port or not, name the same host? */
bool bh_host_same(struct bh_str a, struct bh_str b);

#endif
