/* The text under the YAML reader: places in it, what may stand in it, what a plain scalar means. */
#ifndef BH_CLI_YAMLTEXT_H
#define BH_CLI_YAMLTEXT_H

#include "cli/yaml.h"

struct fy_mark;

/** bh_yaml_skip_mark(text): ${text} without a byte-order mark. */
struct bh_str bh_yaml_skip_mark(struct bh_str text);

/** bh_yaml_mark_at(text, offset): line and column of byte ${offset}; \n, \r\n and a lone \r end a
 * line. */
struct bh_yaml_mark bh_yaml_mark_at(struct bh_str text, size_t offset);

/* Where a walk through the text has come to, so that the next place need not count from the start.
 */
struct bh_yaml_cursor {
    size_t offset;
    struct bh_yaml_mark mark; /* line 0: at the start */
};

/** bh_yaml_walk(text, cursor, offset): the same as bh_yaml_mark_at, from ${cursor} on, which it
 * moves. */
struct bh_yaml_mark bh_yaml_walk(struct bh_str text, struct bh_yaml_cursor *cursor, size_t offset);

/** bh_yaml_sign_before(text, sign, mark): the place of the nearest ${sign} at or before ${mark}
 * (which may be NULL). */
struct bh_yaml_mark bh_yaml_sign_before(struct bh_str text, char sign, const struct fy_mark *mark);

/** bh_yaml_check_text(text, ret_mark, err): UTF-8 without control characters but tab and line ends?
 */
enum bh_code bh_yaml_check_text(
    struct bh_str text, struct bh_yaml_mark *ret_mark, struct bh_error *err) BH_MUSTCHECK;

/** bh_yaml_resolve(text): what the core schema of YAML 1.2 takes a plain scalar for. */
enum bh_json_kind bh_yaml_resolve(struct bh_str text);

#endif
