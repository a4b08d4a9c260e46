/*
 * The YAML that a tenant file may be (YAML 1.2, core schema), read into the
 * tree of core/json.h, each node with its place, so that the shared validator
 * of core/tenantdoc.h can check it and its findings can be shown in the file.
 *
 * Refuses: what is no UTF-8, control characters, several documents, anchors,
 * aliases, tags, a key twice in one mapping, keys that are no scalars, more
 * than 16 levels.
 */
#ifndef BH_CLI_YAML_H
#define BH_CLI_YAML_H

#include <stddef.h>

#include "core/arena.h"
#include "core/error.h"
#include "core/json.h"
#include "core/str.h"

/* A place: lines and columns from 1, columns count characters (a byte-order mark is none). */
struct bh_yaml_mark {
    unsigned line;
    unsigned column;
};

/*
 * A node.  ${json} comes first, so that a `const struct bh_json *` out of the
 * tree *is* its node (bh_yaml_node_of).  A plain scalar that the core schema
 * takes for a number is BH_JSON_NUMBER with its literal text, whatever its form.
 */
struct bh_yaml_node {
    struct bh_json json;
    struct bh_yaml_mark key; /* of a member */
    struct bh_yaml_mark value;
};

/** bh_yaml_node_of(json): the node that ${json}, part of a tree of bh_yaml_parse, is. */
const struct bh_yaml_node *bh_yaml_node_of(const struct bh_json *json);

/**
 * bh_yaml_parse(text, arena, ret_root, ret_mark, err):
 * Read ${text} (the caller has limited its size); the tree lives in ${arena}.
 * An empty document is an empty mapping.  BH_E_INVALID, then ${ret_mark} says
 * where (it is written on failure only); BH_E_NO_MEMORY.
 */
enum bh_code bh_yaml_parse(struct bh_str text, struct bh_arena *arena,
    struct bh_yaml_node **ret_root, struct bh_yaml_mark *ret_mark,
    struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_yaml_find(root, pointer):
 * The node at the RFC 6901 ${pointer} below ${root}, or NULL.
 */
const struct bh_yaml_node *bh_yaml_find(const struct bh_yaml_node *root, const char *pointer);

/** bh_yaml_line(text, line): line ${line} of ${text} without its end, and without a byte-order
 * mark. */
struct bh_str bh_yaml_line(struct bh_str text, unsigned line);

#endif
