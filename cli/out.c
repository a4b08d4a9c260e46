#include "cli/out.h"

#include <libsmartcols/libsmartcols.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

bool
bh_out_terminal(FILE *out)
{
    const char *term = getenv("TERM");

    return isatty(fileno(out)) && term != NULL && *term != '\0' && strcmp(term, "dumb") != 0;
}

bool
bh_out_colors(FILE *out)
{
    const char *no = getenv("NO_COLOR");

    return (no == NULL || *no == '\0') && bh_out_terminal(out);
}

const char *
bh_out_paint(FILE *out, enum bh_color color)
{
    static const char *const escapes[] = {
        [BH_COLOR_NONE] = "\033[0m",
        [BH_COLOR_GREEN] = "\033[32m",
        [BH_COLOR_YELLOW] = "\033[33m",
        [BH_COLOR_RED] = "\033[31m",
        [BH_COLOR_DIM] = "\033[2m",
    };

    return bh_out_colors(out) ? escapes[color] : "";
}

static const struct {
    const char *state;
    enum bh_color color;
} state_colors[] = {
    {"active", BH_COLOR_GREEN},
    {"up", BH_COLOR_GREEN},
    {"succeeded", BH_COLOR_GREEN},
    {"done", BH_COLOR_GREEN},
    {"created", BH_COLOR_GREEN},
    {"changed", BH_COLOR_GREEN},
    {"pending", BH_COLOR_YELLOW},
    {"running", BH_COLOR_YELLOW},
    {"starting", BH_COLOR_YELLOW},
    {"stopping", BH_COLOR_YELLOW},
    {"undoing", BH_COLOR_YELLOW},
    {"offboarding", BH_COLOR_YELLOW},
    {"suspended", BH_COLOR_YELLOW},
    {"limited", BH_COLOR_YELLOW},
    {"failed", BH_COLOR_RED},
    {"undone", BH_COLOR_RED},
    {"down", BH_COLOR_RED},
    {"error", BH_COLOR_RED},
    {"warning", BH_COLOR_YELLOW},
};

enum bh_color
bh_out_state_color(const char *state)
{
    for (size_t i = 0; state != NULL && i < sizeof(state_colors) / sizeof(state_colors[0]); i++)
        if (strcmp(state_colors[i].state, state) == 0)
            return state_colors[i].color;
    return BH_COLOR_NONE;
}

/* Bytes of the character at ${at}; 0 where it is none, or one that drives a terminal. */
static size_t
take_character(const char *at, size_t left)
{
    unsigned char c = (unsigned char)*at;
    size_t len = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

    if ((c < 0x20 && c != '\t') || c == 0x7f || len > left)
        return 0;
    if (!bh_utf8_valid((struct bh_str){at, len}))
        return 0;
    if (c == 0xc2 && (unsigned char)at[1] < 0xa0) /* C1 */
        return 0;
    return len;
}

void
bh_out_text(FILE *out, struct bh_str text)
{
    for (size_t i = 0; i < text.len;) {
        size_t len = take_character(text.data + i, text.len - i);
        if (len == 0)
            (void)fputc('?', out);
        else
            (void)fwrite(text.data + i, 1, len, out);
        i += len == 0 ? 1 : len;
    }
}

void
bh_out_message(FILE *out, const char *fmt, ...)
{
    char text[2048];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    bh_out_text(out, bh_str_of(text));
    (void)fputc('\n', out);
}

int
bh_out_json(json_t *value)
{
    char *text = value == NULL ? NULL : json_dumps(value, JSON_INDENT(2));

    json_decref(value);
    if (text == NULL)
        return bh_cli_no_memory();
    (void)puts(text);
    free(text);
    return BH_EXIT_OK;
}

#define COLUMNS_MAX 12

struct bh_table {
    struct libscols_table *table;
    size_t columns;
    bool state[COLUMNS_MAX]; /* coloured as a state */
    bool failed;
};

static void
add_column(struct bh_table *table, const char *heading, size_t len)
{
    char name[64];
    int flags = 0;

    for (; *heading == '>' || *heading == '*'; heading++, len--) {
        if (*heading == '>')
            flags |= SCOLS_FL_RIGHT;
        else
            table->state[table->columns] = true;
    }
    (void)snprintf(name, sizeof(name), "%.*s", (int)len, heading);
    if (scols_table_new_column(table->table, name, 0, flags) == NULL)
        table->failed = true;
    table->columns++;
}

struct bh_table *
bh_table_new(const char *headings)
{
    struct bh_table *table = calloc(1, sizeof(*table));

    if (table == NULL || (table->table = scols_new_table()) == NULL) {
        free(table);
        return NULL;
    }
    (void)scols_table_enable_colors(table->table, bh_out_colors(stdout));
    (void)scols_table_set_column_separator(table->table, "  ");
    if (!isatty(STDOUT_FILENO)) /* a script gets every byte */
        (void)scols_table_set_termforce(table->table, SCOLS_TERMFORCE_NEVER);
    while (*headings != '\0' && table->columns < COLUMNS_MAX) {
        size_t len = strcspn(headings, "|");
        add_column(table, headings, len);
        headings += len + (headings[len] == '|');
    }
    return table;
}

void
bh_table_row(struct bh_table *table, const char *const *cells, size_t count)
{
    static const char *const names[] = {[BH_COLOR_GREEN] = "green",
        [BH_COLOR_YELLOW] = "yellow",
        [BH_COLOR_RED] = "red",
        [BH_COLOR_DIM] = NULL,
        [BH_COLOR_NONE] = NULL};
    struct libscols_line *line;

    if (table == NULL)
        return;
    line = scols_table_new_line(table->table, NULL);
    if (line == NULL) {
        table->failed = true;
        return;
    }
    for (size_t i = 0; i < count && i < table->columns; i++) {
        const char *color = table->state[i] ? names[bh_out_state_color(cells[i])] : NULL;
        if (scols_line_set_data(line, i, cells[i] == NULL ? "-" : cells[i]) != 0)
            table->failed = true;
        if (color != NULL)
            (void)scols_cell_set_color(scols_line_get_cell(line, i), color);
    }
}

int
bh_table_print(struct bh_table *table)
{
    bool failed = table == NULL || table->failed || scols_print_table(table->table) != 0;

    if (table != NULL)
        scols_unref_table(table->table);
    free(table);
    return failed ? bh_cli_no_memory() : BH_EXIT_OK;
}

const char *
bh_json_text(const json_t *object, const char *name)
{
    return json_string_value(json_object_get(object, name));
}

#define VALUE_SHOWN_MAX 160 /* bytes of a value in one line */

void
bh_out_value(FILE *out, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    size_t len = text == NULL ? 0 : strlen(text);

    bh_out_text(out,
        (struct bh_str){text == NULL ? "" : text,
            bh_utf8_prefix((struct bh_str){text, len > VALUE_SHOWN_MAX ? VALUE_SHOWN_MAX : len})});
    if (len > VALUE_SHOWN_MAX)
        (void)fputs(" ...", out);
    free(text);
}
