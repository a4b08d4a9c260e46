/*
 * What apply would change: a tenant's or tier's file against what is there.
 */
#ifndef BH_CLI_PLAN_H
#define BH_CLI_PLAN_H

#include <jansson.h>
#include <stdio.h>

#include "cli/file.h"
#include "cli/http.h"

enum bh_action { BH_ACTION_CREATE, BH_ACTION_CHANGE, BH_ACTION_NONE };

struct bh_plan {
    const struct bh_file *file;
    enum bh_action action;
    json_t *changes; /* array of {"pointer","from","to"}; owned */
    json_t *current; /* the tenant or tier, NULL where there is none; owned */
};

/** bh_plan_make(client, file, ret_plan, err): look at the tenant and compare.  bh_plan_free also
 * after a failure. */
enum bh_code bh_plan_make(struct bh_client *client, const struct bh_file *file,
    struct bh_plan *ret_plan, struct bh_error *err) BH_MUSTCHECK;
void bh_plan_free(struct bh_plan *plan);

/** bh_plan_compare(doc, current, ret_changes): the changes from ${current} (NULL: none) to ${doc};
 * returns what to do. */
enum bh_action bh_plan_compare(
    const struct bh_tenant_doc *doc, const json_t *current, json_t **ret_changes);

/** bh_plan_body(doc): the body of the PUT, every field stated but settings that the file does not;
 * owned by the caller; NULL: out of memory. */
json_t *bh_plan_body(const struct bh_tenant_doc *doc);

/** bh_plan_file_body(file): the same of a file, a tier's too. */
json_t *bh_plan_file_body(const struct bh_file *file);

/** bh_plan_path(client, file): what the API calls the tenant or tier of ${file}. */
const char *bh_plan_path(struct bh_client *client, const struct bh_file *file);

/** bh_plan_json(plan): {"id","action","changes"}; owned by the caller. */
json_t *bh_plan_json(const struct bh_plan *plan);

/** bh_plan_print(out, plan): for people. */
void bh_plan_print(FILE *out, const struct bh_plan *plan);

#endif
