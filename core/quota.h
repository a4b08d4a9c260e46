/*
 * Quotas: so much in a calendar window, shared by edges through leases of the
 * control plane (doc/contract/limits.md).  Pure: the caller brings the time.
 */
#ifndef BH_CORE_QUOTA_H
#define BH_CORE_QUOTA_H

#include <stdint.h>

#include "core/policy.h"

/**
 * bh_quota_window(window, now_s, ret_begins_s, ret_ends_s):
 * The calendar window (UTC) that ${now_s} (Unix seconds, not negative) lies in: from its first
 * second to that of the next.
 */
void bh_quota_window(
    enum bh_limit_window window, int64_t now_s, int64_t *ret_begins_s, int64_t *ret_ends_s);

/**
 * bh_quota_start(amount, share):
 * What an edge with ${share} of 1000 may use of a quota of ${amount} (at most 2^50) before the
 * control plane answered for the first time in a window: a sixteenth of its share; an edge that
 * is alone (1000) at least one.  The control plane counts it as leased from the window's beginning.
 */
uint64_t bh_quota_start(uint64_t amount, uint32_t share);

#endif
