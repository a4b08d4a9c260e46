#include "cli/cli.h"
#include "cli/out.h"

int
bh_cli_report(const struct bh_error *err)
{
    bh_out_message(stderr, "bulkhead: %s", err->detail);
    if (err->hint[0] != '\0')
        bh_out_message(stderr, "  hint: %s", err->hint);
    return bh_code_exit(err->code);
}

int
bh_cli_no_memory(void)
{
    bh_out_message(stderr, "bulkhead: out of memory");
    return BH_EXIT_FAILED;
}
