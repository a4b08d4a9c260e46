#include "postgres.h"

#include "access/parallel.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "data/actor.h"
#include "data/compat.h"
#include "data/login.h"
#include "data/settings.h"
#include "data/slot.h"

/* The session user's name at its start: after an error nothing can be looked up. */
static const char *
login_name(void)
{
    const char *name = GetConfigOption("session_authorization", true, false);

    return name != NULL ? name : "";
}

/* Nothing is bound: the tenant's own login may be at its first statement. */
static void
find_login(struct bh_actor *ret_actor)
{
    const char *name = login_name();

    ret_actor->tenant = "";
    ret_actor->no = bh_login_tenant();
    if (ret_actor->no != 0)
        ret_actor->subject = name;
    ret_actor->guarded = ret_actor->no != 0 || (name[0] != '\0' && bh_settings_pool_role(name));
}

void
bh_actor_find(struct bh_actor *ret_actor)
{
    int backend = IsParallelWorker() ? BH_BACKEND_LEADER : BH_BACKEND_SELF;

    *ret_actor = (struct bh_actor){0, "", "", true};
    /* From 17 on auxiliary processes have numbers too, beyond those of sessions. */
    if (backend >= 1 && backend <= MaxBackends)
        ret_actor->no = bh_slot_read(backend, &ret_actor->tenant);
    if (ret_actor->no != 0)
        ret_actor->subject = bh_slot_subject(backend);
    else
        find_login(ret_actor);
}

uint64
bh_actor_key(const struct bh_actor *actor)
{
    if (actor->no != 0)
        return (uint64)actor->no;
    return UINT64CONST(1) << 63 | (uint64)MyDatabaseId << 30 | (GetAuthenticatedUserId() >> 2);
}
