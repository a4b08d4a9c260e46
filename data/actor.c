#include "postgres.h"

#include "access/parallel.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "data/actor.h"
#include "data/compat.h"
#include "data/settings.h"
#include "data/slot.h"

/* By the name that the session user had at its start: after an error nothing can be looked up. */
static bool
is_pool_login(void)
{
    const char *name = GetConfigOption("session_authorization", true, false);

    return name != NULL && name[0] != '\0' && bh_settings_pool_role(name);
}

void
bh_actor_find(struct bh_actor *ret_actor)
{
    int backend = IsParallelWorker() ? BH_BACKEND_LEADER : BH_BACKEND_SELF;

    *ret_actor = (struct bh_actor){0, "", "", false};
    /* From 17 on auxiliary processes have numbers too, beyond those of sessions. */
    if (backend >= 1 && backend <= MaxBackends)
        ret_actor->no = bh_slot_read(backend, &ret_actor->tenant);
    if (ret_actor->no != 0)
        ret_actor->subject = bh_slot_subject(backend);
    else
        ret_actor->tenant = "";
    ret_actor->guarded = ret_actor->no != 0 || is_pool_login();
}

uint64
bh_actor_key(const struct bh_actor *actor)
{
    if (actor->no != 0)
        return (uint64)actor->no;
    return UINT64CONST(1) << 63 | (uint64)MyDatabaseId << 30 | (GetAuthenticatedUserId() >> 2);
}
