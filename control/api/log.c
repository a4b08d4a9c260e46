#include "control/api/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/time.h"

#define VALUE_MAX 256

void
bh_log_value(struct bh_buf *buf, const char *name, const char *value)
{
    size_t len = strnlen(value, VALUE_MAX);
    bool quote = len == 0;

    for (size_t i = 0; i < len && !quote; i++)
        quote = value[i] <= ' ' || value[i] > '~' || value[i] == '"' || value[i] == '=' ||
                value[i] == '\\';
    bh_buf_putc(buf, ' ');
    bh_buf_puts(buf, name);
    bh_buf_putc(buf, '=');
    if (quote)
        bh_buf_json(buf, (struct bh_str){value, len});
    else
        bh_buf_add(buf, value, len);
}

void
bh_log_begin(struct bh_buf *buf, char *storage, size_t size)
{
    struct timespec now;
    char text[BH_TIME_TEXT];

    (void)clock_gettime(CLOCK_REALTIME, &now);
    bh_time_format((int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000, text);
    bh_buf_init(buf, storage, size);
    bh_buf_printf(buf, "time=%s", text);
}

void
bh_log_end(struct bh_buf *buf)
{
    struct bh_str line;

    bh_buf_putc(buf, '\n');
    line = bh_buf_str(buf);
    /* One write a line, so that lines of several threads do not mix; a full disk loses lines. */
    if (write(STDERR_FILENO, line.data, line.len) < 0)
        return;
}

void
bh_log(const char *area, const char *fmt, ...)
{
    char storage[BH_LOG_LINE_MAX];
    char message[512];
    struct bh_buf buf;
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    bh_log_begin(&buf, storage, sizeof(storage));
    bh_log_value(&buf, "area", area);
    bh_log_value(&buf, "msg", message);
    bh_log_end(&buf);
}
