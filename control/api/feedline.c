#include "control/api/feedline.h"

#include "control/api/write.h"

void
bh_feed_line(struct bh_buf *out, const char *incarnation, const struct bh_feed_row *row)
{
    struct bh_writer w = {.buf = out};

    bh_write_open(&w, NULL, '{');
    if (incarnation != NULL)
        bh_write_text(&w, "incarnation", incarnation);
    bh_write_int(&w, "seq", row->seq);
    if (row->document == NULL)
        bh_write_int(&w, "no", row->no);
    else
        bh_write_text(&w, "document", row->document);
    bh_write_int(&w, "version", row->version);
    if (row->document == NULL)
        bh_write_raw(&w, "record", row->record);
    else
        bh_write_text(&w, "body", row->body);
    bh_write_close(&w, '}');
    bh_buf_putc(out, '\n');
}
