/* One row of the feed as a line of its answers (doc/contract/feed.md). */
#ifndef BH_CONTROL_API_FEEDLINE_H
#define BH_CONTROL_API_FEEDLINE_H

#include "control/registry/registry.h"
#include "core/buf.h"

#define BH_FEED_LINE_MAX                                                                           \
    ((size_t)512 << 10) /* a document of 64 KiB whose bytes are all escaped                        \
                         */

/** bh_feed_line(out, incarnation, row): append the line of ${row}; ${incarnation} NULL: without. */
void bh_feed_line(struct bh_buf *out, const char *incarnation, const struct bh_feed_row *row);

#endif
