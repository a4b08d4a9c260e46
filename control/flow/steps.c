#include "control/flow/work.h"

#include <string.h>

static const struct bh_flow_step steps[] = {
    {"database", 60000, bh_step_database_ensure, bh_step_database_remove},
    {"route", 60000, bh_step_route, bh_step_route},
    {"smoke", 30000, bh_step_smoke, NULL},
};

const struct bh_flow_step *
bh_flow_step_find(const char *name)
{
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        if (strcmp(steps[i].name, name) == 0)
            return &steps[i];
    return NULL;
}
