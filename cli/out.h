/*
 * What people and scripts see: tables, JSON, messages, colours.
 *
 * Colours only on a terminal, never with NO_COLOR or TERM=dumb.  Text that
 * came from a file or a server is printed without control characters, so that
 * it cannot drive the terminal.
 */
#ifndef BH_CLI_OUT_H
#define BH_CLI_OUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

#include "core/error.h"
#include "core/str.h"

enum bh_color { BH_COLOR_NONE, BH_COLOR_GREEN, BH_COLOR_YELLOW, BH_COLOR_RED, BH_COLOR_DIM };

/** bh_out_terminal(out) / bh_out_colors(out): is ${out} a terminal that understands escapes; shall
 * colours be used on it? */
bool bh_out_terminal(FILE *out);
bool bh_out_colors(FILE *out);

/** bh_out_paint(out, color): the escape that begins ${color} (BH_COLOR_NONE: ends it), or "" where
 * ${out} gets none. */
const char *bh_out_paint(FILE *out, enum bh_color color);

/** bh_out_state_color(state): the colour of a tenant's, operation's, step's or component's state.
 */
enum bh_color bh_out_state_color(const char *state);

/** bh_out_text(out, text): ${text} without control characters (tab stays); bytes that are no UTF-8
 * become '?'. */
void bh_out_text(FILE *out, struct bh_str text);

/** bh_out_message(out, fmt, ...): one cleaned line with its newline. */
void bh_out_message(FILE *out, const char *fmt, ...) BH_PRINTF(2, 3);

/** bh_out_json(value): print ${value} (taken over; NULL: out of memory) on stdout; returns the exit
 * code. */
int bh_out_json(json_t *value);

/** bh_out_value(out, value): any JSON value as compact text, cut where it is long. */
void bh_out_value(FILE *out, const json_t *value);

/* A table with headings on stdout: add rows, then print. */
struct bh_table;

/**
 * bh_table_new(headings):
 * A table with the columns of ${headings}, parted by '|' ("ID|NAME"); a
 * heading that begins with '>' is right-aligned, one with '*' is coloured as a
 * state.  NULL: out of memory, and so are the other calls' answers to NULL.
 */
struct bh_table *bh_table_new(const char *headings);

/** bh_table_row(table, cells, count): one more row; cells may be NULL (shown as "-"). */
void bh_table_row(struct bh_table *table, const char *const *cells, size_t count);

/** bh_table_print(table): print on stdout and free; returns the exit code. */
int bh_table_print(struct bh_table *table);

/** bh_json_text(object, name): the string member ${name}, or NULL. */
const char *bh_json_text(const json_t *object, const char *name);

#endif
