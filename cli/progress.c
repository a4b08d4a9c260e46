#include "cli/progress.h"

#include <langinfo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli/out.h"

/* What stands before an item: in UTF-8, and in any other character set. */
static const struct {
    const char *state;
    const char *sign;
    const char *plain;
    enum bh_color color;
} signs[] = {
    {"waiting", "·", ".", BH_COLOR_DIM},
    {"running", NULL, NULL, BH_COLOR_YELLOW},
    {"starting", NULL, NULL, BH_COLOR_YELLOW},
    {"stopping", NULL, NULL, BH_COLOR_YELLOW},
    {"undoing", NULL, NULL, BH_COLOR_YELLOW},
    {"done", "✔", "+", BH_COLOR_GREEN},
    {"up", "✔", "+", BH_COLOR_GREEN},
    {"unchanged", "✔", "=", BH_COLOR_GREEN},
    {"restarted", "✔", "~", BH_COLOR_GREEN},
    {"undone", "↶", "<", BH_COLOR_RED},
    {"failed", "✘", "x", BH_COLOR_RED},
};

int64_t
bh_monotonic_ms(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void
bh_progress_init(struct bh_progress *progress, bool tall)
{
    *progress = (struct bh_progress){.live = bh_out_terminal(stderr), .tall = tall};
}

size_t
bh_progress_row(struct bh_progress *progress, const char *title)
{
    struct bh_progress_row *rows =
        realloc(progress->rows, (progress->count + 1) * sizeof(*progress->rows));

    if (rows == NULL)
        return SIZE_MAX;
    progress->rows = rows;
    memset(&rows[progress->count], 0, sizeof(*rows));
    (void)snprintf(rows[progress->count].title, sizeof(rows->title), "%s", title);
    return progress->count++;
}

static struct bh_progress_item *
find_item(struct bh_progress_row *row, const char *name)
{
    for (size_t i = 0; i < row->count; i++)
        if (strcmp(row->items[i].name, name) == 0)
            return &row->items[i];
    if (row->count == BH_PROGRESS_ITEMS)
        return NULL;
    (void)snprintf(row->items[row->count].name, sizeof(row->items->name), "%s", name);
    row->items[row->count].took_ms = -1;
    return &row->items[row->count++];
}

static bool
is_over(const char *state)
{
    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++)
        if (strcmp(signs[i].state, state) == 0)
            return signs[i].sign != NULL && strcmp(state, "waiting") != 0;
    return true;
}

static void
print_plain(const struct bh_progress_row *row, const struct bh_progress_item *item)
{
    char took[32] = "";

    if (strcmp(item->state, "waiting") == 0)
        return;
    if (is_over(item->state) && item->took_ms >= 0)
        (void)snprintf(took, sizeof(took), " (%.2f s)", (double)item->took_ms / 1000);
    bh_out_message(stderr, "%s%s%s %s%s%s%s", row->title, *row->title ? ": " : "", item->name,
        item->state, took, *item->note ? ": " : "", item->note);
    (void)fflush(stderr);
}

void
bh_progress_set(struct bh_progress *progress, size_t row, const char *name, const char *state,
    const char *note, int64_t took_ms)
{
    struct bh_progress_item *item;
    bool changed;

    if (row == SIZE_MAX || (item = find_item(&progress->rows[row], name)) == NULL)
        return;
    changed = strcmp(item->state, state) != 0;
    (void)snprintf(item->state, sizeof(item->state), "%s", state);
    (void)snprintf(item->note, sizeof(item->note), "%s", note == NULL ? "" : note);
    if (item->began_ms == 0 && strcmp(state, "waiting") != 0)
        item->began_ms = bh_monotonic_ms();
    if (took_ms >= 0)
        item->took_ms = took_ms;
    else if (changed && is_over(state) && item->began_ms != 0)
        item->took_ms = bh_monotonic_ms() - item->began_ms;
    if (changed && !progress->live)
        print_plain(&progress->rows[row], item);
}

/* ---- on a terminal ---- */

static int
terminal_width(void)
{
    struct winsize size;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20)
        return size.ws_col;
    return 80;
}

static const char *
sign_of(const char *state, unsigned tick, enum bh_color *ret_color)
{
    static const char *const wheel[] = {"◐", "◓", "◑", "◒"};
    static const char *const plain_wheel[] = {"|", "/", "-", "\\"};
    bool utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;

    *ret_color = BH_COLOR_NONE;
    for (size_t i = 0; i < sizeof(signs) / sizeof(signs[0]); i++) {
        if (strcmp(signs[i].state, state) != 0)
            continue;
        *ret_color = signs[i].color;
        if (signs[i].sign == NULL)
            return utf8 ? wheel[tick % 4] : plain_wheel[tick % 4];
        return utf8 ? signs[i].sign : signs[i].plain;
    }
    return " ";
}

/* Prints as much of ${text} as ${left} columns take (all our texts are one column a character). */
static int
put(const char *text, int left)
{
    size_t len = 0;

    for (; text[len] != '\0' && left > 0; left--)
        do
            len++;
        while (((unsigned char)text[len] & 0xc0) == 0x80);
    bh_out_text(stderr, (struct bh_str){text, len});
    return left;
}

static int
put_painted(const char *text, enum bh_color color, int left)
{
    if (color != BH_COLOR_NONE)
        (void)fputs(bh_out_paint(stderr, color), stderr);
    left = put(text, left);
    if (color != BH_COLOR_NONE)
        (void)fputs(bh_out_paint(stderr, BH_COLOR_NONE), stderr);
    return left;
}

static int
put_item(const struct bh_progress *progress, const struct bh_progress_item *item, int left)
{
    enum bh_color color;
    const char *sign = sign_of(item->state, progress->tick, &color);
    char text[160];
    bool over = is_over(item->state);
    int64_t ms = over ? item->took_ms : bh_monotonic_ms() - item->began_ms;

    left = put_painted(sign, color, left);
    if (progress->tall)
        (void)snprintf(text, sizeof(text), " %-12s %-44.44s", item->name,
            *item->note ? item->note : item->state);
    else
        (void)snprintf(
            text, sizeof(text), " %s%s%s", item->name, *item->note ? ": " : "", item->note);
    left = put(text, left);
    (void)snprintf(text, sizeof(text), " %.1fs", (double)ms / 1000);
    if (item->began_ms != 0 && ms >= 0 && (progress->tall || !over))
        left = put_painted(text, BH_COLOR_DIM, left);
    return left;
}

static size_t
draw_row(const struct bh_progress *progress, const struct bh_progress_row *row)
{
    int width = terminal_width() - 1;
    char title[80];
    size_t lines = 0;
    int left;

    if (progress->tall) {
        for (; lines < row->count; lines++) {
            (void)put_item(progress, &row->items[lines], put("  ", width));
            (void)fputs("\033[K\n", stderr);
        }
        return lines;
    }
    (void)snprintf(title, sizeof(title), "  %-14s", row->title);
    left = put(title, width);
    for (size_t i = 0; i < row->count; i++)
        left = put_item(progress, &row->items[i], put(" ", left));
    (void)fputs("\033[K\n", stderr);
    return 1;
}

void
bh_progress_erase(struct bh_progress *progress)
{
    if (progress->live && progress->drawn > 0)
        (void)fprintf(stderr, "\033[%zuA\r\033[J", progress->drawn);
    progress->drawn = 0;
}

void
bh_progress_draw(struct bh_progress *progress)
{
    size_t lines = 0;

    if (!progress->live)
        return;
    if (progress->drawn > 0)
        (void)fprintf(stderr, "\033[%zuA\r", progress->drawn);
    for (size_t i = 0; i < progress->count; i++)
        lines += draw_row(progress, &progress->rows[i]);
    progress->drawn = lines;
    progress->tick++;
    (void)fflush(stderr);
}

void
bh_progress_end(struct bh_progress *progress)
{
    bh_progress_draw(progress);
    free(progress->rows);
    progress->rows = NULL;
    progress->count = 0;
}
