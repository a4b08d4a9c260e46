#include "postgres.h"

#include "utils/guc.h"

#include "data/compat.h"
#include "data/pooler.h"

#define FIVE 5

static const char *const names[FIVE] = {
    "client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings", "application_name"};
static struct config_generic *five[FIVE];

bool
bh_pooler_setting(const char *name)
{
    for (size_t i = 0; name != NULL && i < FIVE; i++)
        if (pg_strcasecmp(name, names[i]) == 0)
            return true;
    return false;
}

static void
find_five(void)
{
    int count;
    struct config_generic **all = bh_compat_settings(&count);

    for (int i = 0; i < count; i++)
        for (int j = 0; j < FIVE; j++)
            if (strcmp(all[i]->name, names[j]) == 0)
                five[j] = all[i];
}

static bool
as_connected(const struct config_generic *setting)
{
    const struct config_string *text = (const struct config_string *)setting;
    const struct config_bool *flag = (const struct config_bool *)setting;

    if (setting->vartype == PGC_BOOL)
        return *flag->variable == flag->reset_val;
    if (*text->variable == NULL || text->reset_val == NULL)
        return *text->variable == text->reset_val;
    return strcmp(*text->variable, text->reset_val) == 0;
}

void
bh_pooler_restore(void)
{
    if (five[0] == NULL)
        find_five();
    for (int i = 0; i < FIVE; i++)
        if (five[i] != NULL && !as_connected(five[i]))
            set_config_option(
                five[i]->name, NULL, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}
