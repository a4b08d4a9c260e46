#include "agent/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "core/time.h"

static int64_t
read_clock(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

int64_t
bh_now_us(void)
{
    return read_clock(CLOCK_REALTIME);
}

int64_t
bh_mono_us(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

int64_t
bh_jitter(int64_t base)
{
    uint32_t random = 0;
    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return base;
    return base + (int64_t)((double)base / 4 * random / UINT32_MAX);
}

void
bh_log(const char *fmt, ...)
{
    char text[1024 + BH_TIME_TEXT + 2];
    bh_time_format(bh_now_us(), text);
    int used = BH_TIME_TEXT - 1;
    text[used++] = ' ';
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(text + used, 1024, fmt, ap);
    va_end(ap);
    len = len < 0 ? 0 : len > 1023 ? 1023 : len;
    for (int i = used; i < used + len; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            text[i] = ' ';
    text[used + len] = '\n';
    /* One write, so that threads do not mix; nobody to tell where stderr is gone. */
    if (write(STDERR_FILENO, text, (size_t)(used + len + 1)) < 0)
        return;
}

void
bh_log_error(const char *what, const struct bh_error *err)
{
    if (err->hint[0])
        bh_log("%s: %s; %s", what, err->detail, err->hint);
    else
        bh_log("%s: %s", what, err->detail);
}
