/* Cuts a stream of bytes into lines, none longer than a limit. */
#ifndef BH_AGENT_LINES_H
#define BH_AGENT_LINES_H

#include <stddef.h>

#include "core/error.h"
#include "core/str.h"

#define BH_LINE_MAX (512 << 10) /* a document of 64 KiB whose bytes are all escaped */

struct bh_lines {
    size_t len; /* of the line that is not complete yet */
    char data[BH_LINE_MAX];
};

/**
 * bh_lines_feed(lines, data, len, visit, arg, err):
 * Call ${visit} for each line that ${data} completes (without its newline,
 * borrowed).  BH_E_TOO_LARGE for a line over the limit; stops at the first
 * failure of ${visit} and passes it on.  What follows is not kept then.
 */
enum bh_code bh_lines_feed(struct bh_lines *lines, const char *data, size_t len,
    enum bh_code (*visit)(void *arg, struct bh_str line, struct bh_error *err), void *arg,
    struct bh_error *err) BH_MUSTCHECK;

#endif
