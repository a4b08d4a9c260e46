/* Configuration files from templates: `${name}` is a placeholder, every other `$` is text. */
#ifndef BH_AGENT_RENDER_H
#define BH_AGENT_RENDER_H

#include <stdbool.h>
#include <stddef.h>

#include "core/buf.h"
#include "core/error.h"
#include "core/str.h"

struct bh_var {
    const char *name;
    const char *value;
};

/**
 * bh_render_value_valid(value):
 * May ${value} stand in a configuration file of any engine, quoted or not?
 * Letters, digits and `._/:@+=~-` only: no quote, space, brace, semicolon, `$`,
 * backslash or newline can end the place that it stands in.
 */
bool bh_render_value_valid(const char *value);

/**
 * bh_render(template, vars, count, out, err):
 * Append ${template} with its placeholders replaced.  BH_E_CONFIG, naming the
 * line, where one is unknown or not closed or its value is not valid;
 * BH_E_TOO_LARGE where ${out} is full.
 */
enum bh_code bh_render(struct bh_str template, const struct bh_var *vars, size_t count,
    struct bh_buf *out, struct bh_error *err) BH_MUSTCHECK;

#endif
