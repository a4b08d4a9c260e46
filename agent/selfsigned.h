/* The edge's certificate for its base domain, where the operator has put none there. */
#ifndef BH_AGENT_SELFSIGNED_H
#define BH_AGENT_SELFSIGNED_H

#include "agent/site.h"

/**
 * bh_selfsigned_ensure(site, err):
 * See to it that keys/edge-tls.crt and keys/edge-tls.key are there.  What somebody else put there
 * stays; one that we signed ourselves is made anew where it is for another base domain or ends
 * within 30 days.  It covers the base domain and one label before it.  BH_E_CONFIG where there is
 * one file without the other.
 */
enum bh_code bh_selfsigned_ensure(const struct bh_site *site, struct bh_error *err) BH_MUSTCHECK;

#endif
