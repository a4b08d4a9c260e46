/* Lists of tenants, for the commands that show one. */
#ifndef BH_CLI_TENANT_H
#define BH_CLI_TENANT_H

#include <jansson.h>

#include "cli/http.h"

/** bh_tenants_read(client, search, ret_items, err): all tenants (all pages) whose id or name
 * contains ${search} (NULL: any); owned. */
enum bh_code bh_tenants_read(struct bh_client *client, const char *search, json_t **ret_items,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_tenants_print(arena, items): as a table on stdout; returns the exit code. */
int bh_tenants_print(struct bh_arena *arena, const json_t *items);

/** bh_members_print(object): a tenant or tier for people, a member a line, on stdout. */
void bh_members_print(const json_t *object);

/** bh_object_get(cli, collection, name): show /v1/${collection}/${name} as -o says; the exit code.
 */
int bh_object_get(struct bh_cli *cli, const char *collection, const char *name);

#endif
