#include "core/time.h"

#define SECOND_US INT64_C(1000000)
#define DAY_S INT64_C(86400)
#define LAST_US (INT64_C(253402300799) * SECOND_US + 999999) /* the end of 9999 */

/* Days since 1970-01-01 of a day in the proleptic Gregorian calendar, years from March. */
static int64_t
days_of(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static void
date_of(int64_t days, int64_t *ret_year, int64_t *ret_month, int64_t *ret_day)
{
    days += 719468; /* since 0000-03-01; never negative here */
    int64_t era = days / 146097, rest = days % 146097;
    int64_t of_era = (rest - rest / 1460 + rest / 36524 - rest / 146096) / 365;
    int64_t of_year = rest - (365 * of_era + of_era / 4 - of_era / 100);
    int64_t month = (5 * of_year + 2) / 153;
    *ret_day = of_year - (153 * month + 2) / 5 + 1;
    *ret_month = month < 10 ? month + 3 : month - 9;
    *ret_year = era * 400 + of_era + (*ret_month <= 2);
}

static void
put_digits(char *text, int64_t value, int width)
{
    for (int i = width - 1; i >= 0; i--) {
        text[i] = (char)('0' + value % 10);
        value /= 10;
    }
}

void
bh_time_format(int64_t time_us, char ret_text[BH_TIME_TEXT])
{
    if (time_us < 0)
        time_us = 0;
    if (time_us > LAST_US)
        time_us = LAST_US;
    int64_t seconds = time_us / SECOND_US, of_day = seconds % DAY_S;
    int64_t year, month, day;
    date_of(seconds / DAY_S, &year, &month, &day);
    memcpy(ret_text, "0000-00-00T00:00:00.000Z", BH_TIME_TEXT);
    put_digits(ret_text, year, 4);
    put_digits(ret_text + 5, month, 2);
    put_digits(ret_text + 8, day, 2);
    put_digits(ret_text + 11, of_day / 3600, 2);
    put_digits(ret_text + 14, of_day / 60 % 60, 2);
    put_digits(ret_text + 17, of_day % 60, 2);
    put_digits(ret_text + 20, time_us % SECOND_US / 1000, 3);
}

/* Takes exactly ${width} digits off the front of ${s}. */
static bool
take_digits(struct bh_str *s, size_t width, int64_t max, int64_t *ret_value)
{
    if (s->len < width)
        return false;
    int64_t value = 0;
    for (size_t i = 0; i < width; i++) {
        if (s->data[i] < '0' || s->data[i] > '9')
            return false;
        value = value * 10 + (s->data[i] - '0');
    }
    if (value > max)
        return false;
    s->data += width;
    s->len -= width;
    *ret_value = value;
    return true;
}

static bool
take_one_of(struct bh_str *s, const char *choices)
{
    if (s->len == 0 || s->data[0] == '\0' || strchr(choices, s->data[0]) == NULL)
        return false;
    s->data++;
    s->len--;
    return true;
}

static bool
take_date(struct bh_str *s, int64_t *ret_days)
{
    static const unsigned char lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t year, month, day;
    if (!take_digits(s, 4, 9999, &year) || !take_one_of(s, "-") || !take_digits(s, 2, 12, &month) ||
        !take_one_of(s, "-") || !take_digits(s, 2, 31, &day))
        return false;
    if (month == 0 || day == 0)
        return false;
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (day > lengths[month - 1] + (month == 2 && leap))
        return false;
    *ret_days = days_of(year, month, day);
    return true;
}

static bool
take_clock(struct bh_str *s, int64_t *ret_us)
{
    int64_t hour, minute, second, fraction = 0;
    if (!take_digits(s, 2, 23, &hour) || !take_one_of(s, ":") || !take_digits(s, 2, 59, &minute) ||
        !take_one_of(s, ":") || !take_digits(s, 2, 59, &second))
        return false;
    if (take_one_of(s, ".")) {
        int64_t unit = SECOND_US / 10, digit;
        for (; unit > 0 && take_digits(s, 1, 9, &digit); unit /= 10)
            fraction += digit * unit;
        if (unit == SECOND_US / 10)
            return false;
    }
    *ret_us = (hour * 3600 + minute * 60 + second) * SECOND_US + fraction;
    return true;
}

static bool
take_offset(struct bh_str *s, int64_t *ret_us)
{
    *ret_us = 0;
    if (take_one_of(s, "Zz"))
        return true;
    int64_t sign = s->len > 0 && s->data[0] == '-' ? -1 : 1, hours, minutes;
    if (!take_one_of(s, "+-") || !take_digits(s, 2, 23, &hours) || !take_one_of(s, ":") ||
        !take_digits(s, 2, 59, &minutes))
        return false;
    *ret_us = sign * (hours * 3600 + minutes * 60) * SECOND_US;
    return true;
}

bool
bh_time_parse(struct bh_str text, int64_t *ret_time_us)
{
    int64_t days, of_day_us, offset_us;
    if (!take_date(&text, &days) || !take_one_of(&text, "Tt") || !take_clock(&text, &of_day_us) ||
        !take_offset(&text, &offset_us) || text.len != 0)
        return false;
    *ret_time_us = days * DAY_S * SECOND_US + of_day_us - offset_us;
    return true;
}
