#include <jansson.h>

#include "bh_config.h"
#include "cli/cli.h"
#include "cli/out.h"

int
bh_cmd_version(struct bh_cli *cli)
{
    if (bh_cli_json(cli))
        return bh_out_json(json_pack("{s:s, s:s}", "version", BH_VERSION, "commit", BH_COMMIT));
    (void)printf("bulkhead %s (%s)\n", BH_VERSION, BH_COMMIT);
    return BH_EXIT_OK;
}
