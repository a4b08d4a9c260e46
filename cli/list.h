/* Commands that show a list of the API: one page of it, or all. */
#ifndef BH_CLI_LIST_H
#define BH_CLI_LIST_H

#include <jansson.h>

#include "cli/http.h"

/* Prints items as a table on stdout; returns the exit code. */
typedef int (*bh_list_printer)(struct bh_cli *cli, const json_t *items);

/** bh_list_page(cli, path, print): the page that GET ${path} gives, as -o says; the exit code. */
int bh_list_page(struct bh_cli *cli, const char *path, bh_list_printer print);

/** bh_list_all(cli, path, print): the same with all pages; ${path} holds a query
 * ("/v1/x?limit=500").
 */
int bh_list_all(struct bh_cli *cli, const char *path, bh_list_printer print);

/** bh_list_read(client, path, ret_items, err): the items of all pages; owned by the caller. */
enum bh_code bh_list_read(struct bh_client *client, const char *path, json_t **ret_items,
    struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_list_path(cli, path, options, ret_path):
 * ${path} with a query of the options in ${options} (bits) that are given, each
 * under its own name; `limit` as it is bounded.  Returns 0 or an exit code.
 */
int bh_list_path(struct bh_cli *cli, const char *path, uint64_t options, const char **ret_path);

/** bh_json_decimal(arena, object, name): the integer member ${name} as text, or NULL. */
const char *bh_json_decimal(struct bh_arena *arena, const json_t *object, const char *name);

#endif
