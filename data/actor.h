/* Who is to answer for what this process does: found without a look-up, also after an error. */
#ifndef BH_DATA_ACTOR_H
#define BH_DATA_ACTOR_H

#include "postgres.h"

struct bh_actor {
    int32 no;            /* 0: no tenant is known */
    const char *tenant;  /* its id, "" where there is none; borrowed, as is the subject */
    const char *subject; /* who of it */
    bool guarded;        /* bound to a tenant, or a pool role's session */
};

/**
 * bh_actor_find(ret_actor):
 * The tenant of this transaction, or of the authentic token that it was refused
 * for, or of the session's login; in a parallel worker that of its leader.  Allocates in the
 * current context.
 */
void bh_actor_find(struct bh_actor *ret_actor);

/**
 * bh_actor_key(actor):
 * Equal for those who share a rate limit: a tenant, or the sessions of a login in a
 * database.  Never 0.
 */
uint64 bh_actor_key(const struct bh_actor *actor);

#endif
