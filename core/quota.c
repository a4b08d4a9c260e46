#include "core/quota.h"

#include "core/buf.h"
#include "core/time.h"

#define HOUR_S 3600
#define DAY_S 86400
#define SECOND_US 1000000

/* Where the month that ${time_s} lies in begins. */
static int64_t
month_of(int64_t time_s)
{
    char text[BH_TIME_TEXT];
    struct bh_buf first;
    int64_t begins_us = 0;
    bh_buf_init(&first, text, sizeof(text));
    bh_time_format(time_s * SECOND_US, text);
    first.len = sizeof("2026-11-") - 1;
    bh_buf_puts(&first, "01T00:00:00Z");
    (void)bh_time_parse(bh_buf_str(&first), &begins_us);
    return begins_us / SECOND_US;
}

void
bh_quota_window(
    enum bh_limit_window window, int64_t now_s, int64_t *ret_begins_s, int64_t *ret_ends_s)
{
    if (window == BH_WINDOW_MONTH) {
        *ret_begins_s = month_of(now_s);
        *ret_ends_s = month_of(*ret_begins_s + 31 * DAY_S);
        return;
    }
    int64_t length = window == BH_WINDOW_HOUR ? HOUR_S : DAY_S;
    *ret_begins_s = now_s - now_s % length;
    *ret_ends_s = *ret_begins_s + length;
}

uint64_t
bh_quota_start(uint64_t amount, uint32_t share)
{
    uint64_t part = amount * (share < 1000 ? share : 1000);
    return (part + (share >= 1000 ? 15999 : 0)) / 16000;
}
