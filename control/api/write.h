/* Writes JSON into a buffer: who calls it names members, it places the commas. */
#ifndef BH_CONTROL_API_WRITE_H
#define BH_CONTROL_API_WRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"

struct bh_writer {
    struct bh_buf *buf;
    bool comma; /* something stands before the next member or item */
};

/** bh_write_open(w, name, bracket) / bh_write_close(w, bracket): `{` or `[`, as member ${name}
 * (NULL: none). */
void bh_write_open(struct bh_writer *w, const char *name, char bracket);
void bh_write_close(struct bh_writer *w, char bracket);

/* Members; ${name} NULL: an item of an array. */
void bh_write_text(struct bh_writer *w, const char *name, const char *text); /* NULL: null */
void bh_write_str(struct bh_writer *w, const char *name, struct bh_str text);
void bh_write_int(struct bh_writer *w, const char *name, int64_t value);
void bh_write_bool(struct bh_writer *w, const char *name, bool value);
void bh_write_raw(struct bh_writer *w, const char *name, const char *json); /* NULL: null */
void bh_write_time(struct bh_writer *w, const char *name, int64_t time_us); /* 0: null */

#endif
