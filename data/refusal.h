/*
 * What an error report says was refused, in fixed words and names only.  An error
 * message is a format of the server's own code with values in it; only of the
 * formats in a table are values taken, because there they are names of objects.
 * Calls nothing of PostgreSQL.
 */
#ifndef BH_DATA_REFUSAL_H
#define BH_DATA_REFUSAL_H

#include <stddef.h>

#include "core/str.h"

/* Of each name at most this many bytes are taken: no identifier is longer. */
#define BH_REFUSAL_NAME_MAX 63

struct bh_refusal {
    char object[192];  /* `table notes`, `SET ROLE`; empty where the format is not in the table */
    char message[128]; /* the format, "..." for each value that may not be shown */
};

/**
 * bh_refusal_read(id, format, text, ret_refusal):
 * From the format ${id} in English, the same as translated ${format}, and the
 * message ${text} that was made with it.  Where ${text} does not have the shape of
 * ${format}, no value is taken.  What is no printable ASCII becomes `\xNN`.
 */
void bh_refusal_read(
    const char *id, const char *format, const char *text, struct bh_refusal *ret_refusal);

/**
 * bh_refusal_print(text, out, size):
 * ${text} as printable ASCII, other bytes and backslashes as `\xNN`, cut to
 * ${size} - 1 bytes, never inside of a `\xNN`.  Return the length.
 */
size_t bh_refusal_print(struct bh_str text, char *out, size_t size);

#endif
