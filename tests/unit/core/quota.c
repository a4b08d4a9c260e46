/* Windows and first leases of quotas. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/quota.h"

static void
windows_are_of_the_calendar(void **state)
{
    static const struct {
        enum bh_limit_window window;
        int64_t now_s, begins_s, ends_s;
    } table[] = {
        {BH_WINDOW_HOUR, 0, 0, 3600},
        {BH_WINDOW_HOUR, 7199, 3600, 7200},
        {BH_WINDOW_DAY, 86399, 0, 86400},
        {BH_WINDOW_DAY, 86400, 86400, 172800},
        {BH_WINDOW_MONTH, 0, 0, 2678400},
        {BH_WINDOW_MONTH, 1709164799, 1706745600, 1709251200}, /* 2024-02-28: a leap year */
        {BH_WINDOW_MONTH, 1709251199, 1706745600, 1709251200}, /* its 29th */
        {BH_WINDOW_MONTH, 1709251200, 1709251200, 1711929600},
        {BH_WINDOW_MONTH, 1798761599, 1796083200, 1798761600}, /* the last second of 2026 */
        {BH_WINDOW_MONTH, 1798761600, 1798761600, 1801440000},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        int64_t begins_s, ends_s;
        bh_quota_window(table[i].window, table[i].now_s, &begins_s, &ends_s);
        assert_int_equal(begins_s, table[i].begins_s);
        assert_int_equal(ends_s, table[i].ends_s);
    }
}

static void
first_leases_never_exceed_a_sixteenth(void **state)
{
    (void)state;
    assert_int_equal(bh_quota_start(160000, 1000), 10000);
    assert_int_equal(bh_quota_start(160000, 250), 2500);
    assert_int_equal(bh_quota_start(5, 1000), 1); /* the only edge serves at once */
    assert_int_equal(bh_quota_start(5, 999), 0);
    assert_int_equal(bh_quota_start(UINT64_C(1) << 50, 1000), UINT64_C(1) << 46);
    for (uint64_t amount = 1; amount < 100000; amount = amount * 3 + 1)
        for (uint32_t edges = 2; edges < 50; edges++)
            assert_true(edges * bh_quota_start(amount, 1000 / edges) <= amount / 16);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(windows_are_of_the_calendar),
        cmocka_unit_test(first_leases_never_exceed_a_sixteenth)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
