/*
 * An nginx configuration as a tree: the output of `nginx -T`, or one file.
 *
 * Nothing is read from disk: an `include` stands for the files of the dump that
 * its pattern matches.  Directives keep the order in which nginx sees them.
 */
#ifndef BH_CLI_NGINXCONF_H
#define BH_CLI_NGINXCONF_H

#include <stdbool.h>
#include <stddef.h>

#include "core/arena.h"
#include "core/error.h"
#include "core/str.h"

#define BH_CONF_ARGS_MAX 64

struct bh_conf {
    const char *name; /* of the directive; "" at the root */
    const char **args;
    size_t arg_count;
    const char *file;
    unsigned line;
    struct bh_conf *parent;
    struct bh_conf *first; /* of its block */
    struct bh_conf *last;
    struct bh_conf *next;
};

/**
 * bh_conf_parse(text, name, arena, ret_root, err):
 * The tree of ${text}, which messages call ${name} where it names no files
 * itself; lives in ${arena}.  BH_E_INVALID where it is no configuration.
 */
enum bh_code bh_conf_parse(struct bh_str text, const char *name, struct bh_arena *arena,
    struct bh_conf **ret_root, struct bh_error *err) BH_MUSTCHECK;

/** bh_conf_is(conf, name): is it that directive? */
bool bh_conf_is(const struct bh_conf *conf, const char *name);

/** bh_conf_next(root, conf): the directive after ${conf} in the tree below ${root}, in order of the
 * text; NULL at the end.  Begin with ${root}. */
struct bh_conf *bh_conf_next(const struct bh_conf *root, const struct bh_conf *conf);

/** bh_conf_child(block, name): the last directive ${name} of the block itself, or NULL. */
const struct bh_conf *bh_conf_child(const struct bh_conf *block, const char *name);

/** bh_conf_here(place, name): the directive ${name} that holds in the block ${place}: its own, or
 * that of the nearest block around it; NULL: nginx's default. */
const struct bh_conf *bh_conf_here(const struct bh_conf *place, const char *name);

/** bh_conf_around(conf, name): the block ${name} that ${conf} stands in, or NULL. */
const struct bh_conf *bh_conf_around(const struct bh_conf *conf, const char *name);

/** bh_conf_arg(conf, i): its argument, "" where there is none; ${conf} may be NULL. */
const char *bh_conf_arg(const struct bh_conf *conf, size_t i);

#endif
