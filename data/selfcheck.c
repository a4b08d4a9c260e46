/* What bulkhead.selfcheck(), a function in SQL, cannot see from there. */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "data/keys.h"
#include "data/settings.h"

#pragma GCC visibility push(default)
PG_FUNCTION_INFO_V1(bh_key_file_problem);
PG_FUNCTION_INFO_V1(bh_is_pool_role);
PG_FUNCTION_INFO_V1(bh_module_version);
#pragma GCC visibility pop

Datum
bh_key_file_problem(PG_FUNCTION_ARGS)
{
    const char *problem = bh_keys_problem();

    if (problem == NULL)
        PG_RETURN_NULL();
    PG_RETURN_TEXT_P(cstring_to_text(problem));
}

Datum
bh_is_pool_role(PG_FUNCTION_ARGS)
{
    PG_RETURN_BOOL(bh_settings_pool_role(NameStr(*PG_GETARG_NAME(0))));
}

Datum
bh_module_version(PG_FUNCTION_ARGS)
{
    (void)fcinfo;
    PG_RETURN_TEXT_P(cstring_to_text(BH_EXTENSION_VERSION));
}
