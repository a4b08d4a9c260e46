/* `usage`: what tenants used, summed over the hours that were asked for. */
#include <string.h>

#include "cli/list.h"
#include "cli/out.h"
#include "core/meter.h"

static void
add_row(struct bh_table *table, struct bh_arena *arena, const json_t *item, json_int_t sum)
{
    const char *meter = bh_json_text(item, "meter");
    const char *cells[] = {bh_json_text(item, "tenant"), meter,
        bh_arena_printf(arena, "%" JSON_INTEGER_FORMAT, sum),
        meter == NULL ? NULL : bh_meter_unit(bh_meter_find(meter))};

    bh_table_row(table, cells, 4);
}

static bool
same(const json_t *a, const json_t *b, const char *name)
{
    return json_equal(json_object_get(a, name), json_object_get(b, name)) == 1;
}

/* Items come by tenant, meter, hour. */
static int
print(struct bh_cli *cli, const json_t *items)
{
    struct bh_table *table = bh_table_new("TENANT|METER|>VALUE|UNIT");
    json_int_t sum = 0;
    size_t i;
    json_t *item;

    json_array_foreach(items, i, item)
    {
        const json_t *next = json_array_get(items, i + 1);
        json_int_t value = json_integer_value(json_object_get(item, "value"));
        sum = value > INT64_MAX - sum ? INT64_MAX : sum + value;
        if (next != NULL && same(item, next, "tenant") && same(item, next, "meter"))
            continue;
        add_row(table, cli->arena, item, sum);
        sum = 0;
    }
    if (json_array_size(items) == 0)
        bh_out_message(stderr, "nothing was used");
    return bh_table_print(table);
}

int
bh_cmd_usage(struct bh_cli *cli)
{
    const char *path;
    int code = bh_list_path(cli, "/v1/usage",
        BH_OPT_BIT(TENANT) | BH_OPT_BIT(METER) | BH_OPT_BIT(FROM) | BH_OPT_BIT(TO), &path);

    return code != 0 ? code : bh_list_all(cli, path, print);
}
