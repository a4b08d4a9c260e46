#include "postgres.h"

#include "utils/guc.h"

#include "data/compat.h"
#include "data/context.h"
#include "data/limit.h"
#include "data/raise.h"
#include "data/sets.h"

#define NAMES_MAX 1000
#define NAMES_LOOK 256

static int first_nest; /* 0: no tenant is bound */
static bool called;
static uint32 named;  /* by SET, in this process */
static bool defining; /* a setting may have been made by naming it */

void
bh_sets_begin(int nest)
{
    first_nest = nest;
    called = false;
}

/*
 * A setting with a point in its name exists from its first SET on, for as long
 * as the session does.  Its value is undone; its name is the tenant's too, so
 * SHOW ALL and pg_settings do not tell it to the next one.
 */
static void
hide_leftover(void)
{
    int count;
    struct config_generic **all = bh_compat_settings(&count);

    for (int i = 0; i < count; i++)
        if ((all[i]->flags & GUC_CUSTOM_PLACEHOLDER) != 0)
            all[i]->flags |= GUC_NO_SHOW_ALL;
}

void
bh_sets_end(void)
{
    if (defining)
        hide_leftover();
    defining = false;
    first_nest = 0;
    called = false;
}

void
bh_sets_called(void)
{
    called = first_nest != 0;
    defining = called;
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

/*
 * A name like `app.user` that was set once stays in the process for good: the next
 * tenants could ask for it, and each end of a transaction would walk past thousands.
 * The connection that has too many ends, under the tenant that made them.
 */
static void
check_names(int count)
{
    if (count > NAMES_MAX)
        ereport(FATAL, (errcode(BH_TN_STATEMENT),
                           errmsg("%s is not allowed while a tenant is bound",
                               "making more than 1000 names of settings"),
                           errhint("Keep the values in a table.")));
}

void
bh_sets_named(void)
{
    struct config_generic **all;
    int count;
    int names = 0;

    defining = first_nest != 0;
    if (first_nest == 0 || ++named % NAMES_LOOK != 0)
        return;
    all = bh_compat_settings(&count);
    for (int i = 0; i < count; i++)
        names += (all[i]->flags & GUC_CUSTOM_PLACEHOLDER) != 0;
    check_names(names);
}

void
bh_sets_check(void)
{
    struct config_generic **all;
    int count;
    int names = 0;

    if (!called)
        return;
    bh_limits_check();
    all = bh_compat_settings(&count);
    for (int i = 0; i < count; i++) {
        names += (all[i]->flags & GUC_CUSTOM_PLACEHOLDER) != 0;
        if (for_session(all[i]))
            bh_raise_statement("set_config() for the session");
    }
    check_names(names);
}

/* ---- plans ---- */

/* A plan tells how many rows it expects, by statistics of all tenants' rows. */
static bool
check_print(bool *value, void **extra pg_attribute_unused(), GucSource source)
{
    if (!*value || source != PGC_S_SESSION || bh_context_mode() != BH_MODE_ROW)
        return true;
    GUC_check_errcode(BH_TN_STATEMENT);
    GUC_check_errmsg("printing plans is not allowed while a tenant is bound");
    return false;
}

void
bh_sets_define(void)
{
    static const char *const names[] = {
        "debug_print_parse", "debug_print_rewritten", "debug_print_plan"};
    int count;
    struct config_generic **all = bh_compat_settings(&count);

    for (int i = 0; i < count; i++)
        for (size_t j = 0; j < lengthof(names); j++)
            if (strcmp(all[i]->name, names[j]) == 0)
                ((struct config_bool *)all[i])->check_hook = check_print;
}
