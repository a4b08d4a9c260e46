/* `get tiers`: what tiers say to the edge. */
#include "cli/list.h"
#include "cli/out.h"
#include "cli/tenant.h"
#include "core/buf.h"

/* The names of the settings that a tier states. */
static const char *
settings(struct bh_arena *arena, const json_t *tier)
{
    struct bh_buf text;
    const char *name;
    json_t *value;

    bh_buf_init_arena(&text, arena, 1024);
    json_object_foreach(json_object_get(tier, "edge"), name, value)
        bh_buf_printf(&text, "%s%s", text.len == 0 ? "" : ", ", name);
    return text.len == 0 ? NULL : text.data;
}

static int
print_tiers(struct bh_cli *cli, const json_t *items)
{
    struct bh_table *table = bh_table_new("NAME|>GENERATION|UPDATED|EDGE SETTINGS");
    size_t i;
    json_t *tier;

    json_array_foreach(items, i, tier)
    {
        const char *cells[] = {bh_json_text(tier, "name"),
            bh_json_decimal(cli->arena, tier, "generation"), bh_json_text(tier, "updated_at"),
            settings(cli->arena, tier)};
        bh_table_row(table, cells, 4);
    }
    return bh_table_print(table);
}

int
bh_cmd_get_tiers(struct bh_cli *cli)
{
    return cli->arg_count > 0 ? bh_object_get(cli, "tiers", cli->args[0])
                              : bh_list_all(cli, "/v1/tiers?limit=500", print_tiers);
}
