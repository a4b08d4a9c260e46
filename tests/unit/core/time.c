#include "tests/unit/core/test.h"

#include <time.h>

#include "core/time.h"

#define SECOND INT64_C(1000000)

static void
times_are_written_in_utc_with_milliseconds(void **state)
{
    (void)state;
    static const struct {
        int64_t time_us;
        const char *text;
    } rows[] = {{0, "1970-01-01T00:00:00.000Z"}, {999, "1970-01-01T00:00:00.000Z"},
        {1000, "1970-01-01T00:00:00.001Z"}, {951782400 * SECOND, "2000-02-29T00:00:00.000Z"},
        {1795262400 * SECOND + 123456, "2026-11-21T12:00:00.123Z"},
        {253402300799 * SECOND + 999999, "9999-12-31T23:59:59.999Z"},
        {-1, "1970-01-01T00:00:00.000Z"}, {INT64_MIN, "1970-01-01T00:00:00.000Z"},
        {INT64_MAX, "9999-12-31T23:59:59.999Z"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[BH_TIME_TEXT];
        bh_time_format(rows[i].time_us, text);
        assert_string_equal(text, rows[i].text);
    }
}

static void
rfc_3339_is_read_with_fraction_and_offset(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t time_us;
    } rows[] = {{"1970-01-01T00:00:00Z", 0}, {"1970-01-01T00:00:00.000001Z", 1},
        {"1970-01-01T00:00:00.5Z", 500000}, {"1970-01-01t00:00:01z", SECOND},
        {"1970-01-01T01:00:00+01:00", 0}, {"1969-12-31T23:30:00-00:30", 0},
        {"1970-01-01T00:00:00-00:00", 0}, {"2000-02-29T00:00:00Z", 951782400 * SECOND},
        {"0000-03-01T00:00:00Z", -62162035200 * SECOND},
        {"9999-12-31T23:59:59.999999Z", 253402300799 * SECOND + 999999}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t time_us = 1;
        assert_true(bh_time_parse(bh_str_of(rows[i].text), &time_us));
        assert_true(time_us == rows[i].time_us);
    }
}

static void
anything_else_is_no_time(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "1970", "1970-01-01", "1970-01-01T00:00:00",
        "1970-01-01 00:00:00Z", "1970-01-01T00:00Z", "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00:00.0000001Z", "1970-01-01T00:00:00,5Z", "1970-01-01T24:00:00Z",
        "1970-01-01T23:60:00Z", "1970-01-01T23:59:60Z", "1970-00-01T00:00:00Z",
        "1970-13-01T00:00:00Z", "1970-01-00T00:00:00Z", "1970-01-32T00:00:00Z",
        "1970-04-31T00:00:00Z", "1970-02-29T00:00:00Z", "1900-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z", "1970-01-01T00:00:00+1:00", "1970-01-01T00:00:00+0100",
        "1970-01-01T00:00:00+24:00", "1970-01-01T00:00:00+00:60", "1970-01-01T00:00:00ZZ",
        " 1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z ", "+970-01-01T00:00:00Z",
        "19700-01-01T00:00:00Z", "70-01-01T00:00:00Z", "1970-1-01T00:00:00Z"};
    int64_t time_us = 7;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (bh_time_parse(bh_str_of(bad[i]), &time_us))
            fail_msg("%s was read", bad[i]);
    }
    assert_false(bh_time_parse(BH_STR("1970-01-01T00:00:00\0"), &time_us));
    assert_true(time_us == 7);
}

/* gmtime is the other opinion. */
static void
each_day_until_9999_agrees_with_the_c_library(void **state)
{
    (void)state;
    for (int64_t day = 0; day < 2932897; day += 13) {
        char text[BH_TIME_TEXT], wanted[32];
        int64_t back;
        time_t seconds = day * 86400 + day % 86400;
        struct tm tm;
        assert_non_null(gmtime_r(&seconds, &tm));
        assert_int_not_equal(strftime(wanted, sizeof(wanted), "%Y-%m-%dT%H:%M:%S.000Z", &tm), 0);
        bh_time_format(seconds * SECOND, text);
        assert_string_equal(text, wanted);
        assert_true(bh_time_parse(bh_str_of(text), &back));
        assert_true(back == seconds * SECOND);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_written_in_utc_with_milliseconds),
        cmocka_unit_test(rfc_3339_is_read_with_fraction_and_offset),
        cmocka_unit_test(anything_else_is_no_time),
        cmocka_unit_test(each_day_until_9999_agrees_with_the_c_library),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
