#include "control/api/write.h"

#include "core/time.h"

static void
begin(struct bh_writer *w, const char *name)
{
    if (w->comma)
        bh_buf_putc(w->buf, ',');
    w->comma = true;
    if (name != NULL) {
        bh_buf_json(w->buf, bh_str_of(name));
        bh_buf_putc(w->buf, ':');
    }
}

void
bh_write_open(struct bh_writer *w, const char *name, char bracket)
{
    begin(w, name);
    bh_buf_putc(w->buf, bracket);
    w->comma = false;
}

void
bh_write_close(struct bh_writer *w, char bracket)
{
    bh_buf_putc(w->buf, bracket);
    w->comma = true;
}

void
bh_write_str(struct bh_writer *w, const char *name, struct bh_str text)
{
    begin(w, name);
    bh_buf_json(w->buf, text);
}

void
bh_write_text(struct bh_writer *w, const char *name, const char *text)
{
    if (text == NULL)
        bh_write_raw(w, name, NULL);
    else
        bh_write_str(w, name, bh_str_of(text));
}

void
bh_write_int(struct bh_writer *w, const char *name, int64_t value)
{
    begin(w, name);
    bh_buf_int(w->buf, value);
}

void
bh_write_bool(struct bh_writer *w, const char *name, bool value)
{
    begin(w, name);
    bh_buf_puts(w->buf, value ? "true" : "false");
}

void
bh_write_raw(struct bh_writer *w, const char *name, const char *json)
{
    begin(w, name);
    bh_buf_puts(w->buf, json == NULL ? "null" : json);
}

void
bh_write_time(struct bh_writer *w, const char *name, int64_t time_us)
{
    char text[BH_TIME_TEXT];

    if (time_us == 0) {
        bh_write_raw(w, name, NULL);
        return;
    }
    bh_time_format(time_us, text);
    bh_write_text(w, name, text);
}
