#include "postgres.h"

#include "utils/guc.h"

#include "data/compat.h"
#include "data/limit.h"
#include "data/raise.h"
#include "data/sets.h"

static int first_nest; /* 0: no tenant is bound */
static bool called;

void
bh_sets_begin(int nest)
{
    first_nest = nest;
    called = false;
}

void
bh_sets_end(void)
{
    first_nest = 0;
    called = false;
}

void
bh_sets_called(void)
{
    called = first_nest != 0;
}

/*
 * SET TRANSACTION is written without LOCAL and lasts no longer.  asyncpg turns
 * jit off and on again by set_config(…, false) around its look-up of a type:
 * leave it, as the end of the transaction undoes it and it decides about nothing.
 */
static bool
harmless(const char *name)
{
    static const char *const names[] = {
        "transaction_isolation", "transaction_read_only", "transaction_deferrable", "jit"};

    for (size_t i = 0; i < lengthof(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static bool
for_session(const struct config_generic *setting)
{
    for (const GucStack *it = setting->stack; it != NULL && it->nest_level >= first_nest;
         it = it->prev)
        if (it->state == GUC_SET || it->state == GUC_SET_LOCAL)
            return !harmless(setting->name);
    return false;
}

void
bh_sets_check(void)
{
    struct config_generic **all;
    int count;

    if (!called)
        return;
    bh_limits_check();
    all = bh_compat_settings(&count);
    for (int i = 0; i < count; i++)
        if (for_session(all[i]))
            bh_raise_statement("set_config() for the session");
}
