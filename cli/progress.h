/*
 * What goes on, on stderr: redrawn in place on a terminal, a plain line for
 * each change elsewhere.
 *
 * Rows ("initech") hold items ("database") that change their state.
 */
#ifndef BH_CLI_PROGRESS_H
#define BH_CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BH_PROGRESS_ITEMS 24

struct bh_progress_item {
    char name[32];
    char state[16];   /* waiting running done undoing undone failed; up: starting up … */
    char note[96];    /* shown behind it; may be empty */
    int64_t began_ms; /* monotonic; when it was first seen running */
    int64_t took_ms;  /* -1: unknown */
};

struct bh_progress_row {
    char title[64];
    struct bh_progress_item items[BH_PROGRESS_ITEMS];
    size_t count;
};

struct bh_progress {
    struct bh_progress_row *rows; /* malloc'ed */
    size_t count;
    size_t drawn; /* lines on the terminal that the next drawing replaces */
    bool live;
    bool tall; /* an item is a line of its own (up), not a word of its row's */
    unsigned tick;
};

/** bh_progress_init(progress, tall) / bh_progress_end(progress): begin; draw a last time and free.
 */
void bh_progress_init(struct bh_progress *progress, bool tall);
void bh_progress_end(struct bh_progress *progress);

/** bh_progress_row(progress, title): the index of a new row; SIZE_MAX: out of memory, and such a
 * row takes nothing. */
size_t bh_progress_row(struct bh_progress *progress, const char *title);

/**
 * bh_progress_set(progress, row, name, state, note, took_ms):
 * The item ${name} of ${row} is now in ${state} (${note} may be NULL) and took
 * ${took_ms} (-1: measured here).  Off a terminal a change is printed at once.
 */
void bh_progress_set(struct bh_progress *progress, size_t row, const char *name, const char *state,
    const char *note, int64_t took_ms);

/** bh_progress_draw(progress): on a terminal, bring what is shown up to date. */
void bh_progress_draw(struct bh_progress *progress);

/** bh_progress_erase(progress): take it off the terminal, so that a message can be printed; the
 * next draw puts it back. */
void bh_progress_erase(struct bh_progress *progress);

/** bh_monotonic_ms(): a clock that only goes forward. */
int64_t bh_monotonic_ms(void);

#endif
