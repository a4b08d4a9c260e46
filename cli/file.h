/*
 * Files of tenants, and of tiers (`kind: tier`): found, read, checked, and what is wrong shown in
 * them.
 */
#ifndef BH_CLI_FILE_H
#define BH_CLI_FILE_H

#include "cli/cli.h"
#include "cli/yaml.h"
#include "core/str.h"
#include "core/tenantdoc.h"

struct bh_file {
    const char *name; /* as messages name it: a path, or <stdin> */
    struct bh_str text;
    struct bh_yaml_node *root;
    bool tier;
    struct bh_tenant_doc doc;    /* of a tenant */
    struct bh_tier_doc tier_doc; /* of a tier */
    const char *id;              /* doc.id or tier_doc.name, NUL-terminated */
    const char *label;           /* the same for people: "acme", "tier/gold" */
};

struct bh_files {
    struct bh_file *items; /* tiers first, each in the order given; a directory's by name */
    size_t count;
    bool list; /* more than one, or a directory: results are lists */
};

/**
 * bh_files_read(cli, ret_files):
 * Read and check all that -f names.  Returns 0, or the exit code after saying
 * what is wrong with each file (65), or which path is not there (66) or not
 * readable (77).
 */
int bh_files_read(struct bh_cli *cli, struct bh_files *ret_files);

/** bh_file_show(file, mark, detail): `file:line:col: detail`, the line and a caret, on stderr. */
void bh_file_show(const struct bh_file *file, struct bh_yaml_mark mark, const char *detail);

#endif
