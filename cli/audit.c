/* `audit list`: what database servers refused. */
#include <string.h>

#include "cli/list.h"
#include "cli/out.h"

static int
print(struct bh_cli *cli, const json_t *items)
{
    struct bh_table *table = bh_table_new("AT|TENANT|SUBJECT|DATABASE|CODE|>COUNT|OBJECT|MESSAGE");
    size_t i;
    json_t *item;

    json_array_foreach(items, i, item)
    {
        const char *code = bh_json_text(item, "code");
        const char *cells[] = {bh_json_text(item, "at"), bh_json_text(item, "tenant"),
            bh_json_text(item, "subject"), bh_json_text(item, "database"),
            code == NULL ? bh_json_text(item, "kind") : code,
            bh_json_decimal(cli->arena, item, "count"), bh_json_text(item, "object"),
            bh_json_text(item, "message")};
        bh_table_row(table, cells, 8);
    }
    if (json_array_size(items) == 0)
        bh_out_message(stderr, "nothing was refused");
    return bh_table_print(table);
}

int
bh_cmd_audit_list(struct bh_cli *cli)
{
    const char *path;
    int code = bh_list_path(cli, "/v1/audit",
        BH_OPT_BIT(TENANT) | BH_OPT_BIT(CODE) | BH_OPT_BIT(FROM) | BH_OPT_BIT(TO) |
            BH_OPT_BIT(LIMIT),
        &path);

    return code != 0 ? code : bh_list_page(cli, path, print);
}
