#include "control/registry/change.h"

#include <string.h>

/* Tier `standard`: a schema in a shared database, a route, and the proof that it serves. */
static const struct bh_plan plans[] = {
    {"onboard", false, {"database", "route", "smoke"}},
    {"update", false, {"route"}},
    {"offboard", true, {"route", "database"}},
};

const struct bh_plan *
bh_plan_find(const char *kind)
{
    for (size_t i = 0; i < sizeof(plans) / sizeof(plans[0]); i++)
        if (strcmp(plans[i].kind, kind) == 0)
            return &plans[i];
    return NULL;
}
