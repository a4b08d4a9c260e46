/* Which tenant a Host header names, and what may be a custom domain. */
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

#define BH_DOMAIN_MAX 253 /* bytes of a custom domain */

/**
 * bh_domain_check(domain, err):
 * May ${domain} be a tenant's custom domain?  In lower case, at least two labels of letters, digits
 * and hyphens (1 to 63 bytes, no hyphen at the ends, `--` in third place only after `xn`), the last
 * one beginning with a letter (so never an address), at most 253 bytes, no dot at the ends.
 * BH_E_INVALID with a detail that continues the field's name.
 */
enum bh_code bh_domain_check(struct bh_str domain, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_host_under(host, base_domain):
 * Is ${host} (lower case, no port) the base domain or a name under it?
 */
bool bh_host_under(struct bh_str host, struct bh_str base_domain);

/**
 * bh_host_domain(host, base_domain, ret_domain, ret_len):
 * Write the custom domain that ${host} is to ${ret_domain}: lower-cased, without what follows the
 * last colon and without one trailing dot.  False where that is no name that bh_domain_check
 * allows, or it is the base domain or under it.
 */
bool bh_host_domain(struct bh_str host, struct bh_str base_domain,
    char ret_domain[BH_DOMAIN_MAX + 1], size_t *ret_len);

/** bh_host_same(a, b): do two spellings, with port or not, name the same host? */
bool bh_host_same(struct bh_str a, struct bh_str b);

#endif
