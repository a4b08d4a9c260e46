/* One child: starting it, stopping it, and clearing away what its predecessor left. */
#ifndef BH_AGENT_CHILDREN_H
#define BH_AGENT_CHILDREN_H

#include "agent/supervise.h"

/** bh_child_start(site, child, err): clear the ground, check the port, spawn; fills pid, started,
 * pidfd, hash. */
enum bh_code bh_child_start(
    const struct bh_site *site, struct bh_child *child, struct bh_error *err) BH_MUSTCHECK;

/** bh_child_watch(site, child): open the pidfd of a child that runs; false where it is gone. */
bool bh_child_watch(const struct bh_site *site, struct bh_child *child);

/** bh_child_stop(site, child): ask it to stop, hurry it, kill it and all of its session; returns
 * when it is gone. */
void bh_child_stop(const struct bh_site *site, struct bh_child *child);

/** bh_child_gone(site, child, err): it ended: reap it, forget the pid, say in ${err} how and what
 * its log said last. */
void bh_child_gone(const struct bh_site *site, struct bh_child *child, struct bh_error *err);

/** bh_child_clear(site, child): end what is left of earlier processes of this component; false
 * where something resists. */
bool bh_child_clear(const struct bh_site *site, const struct bh_child *child);

#endif
