#include "tests/unit/core/test.h"

#include "control/watch/told.h"
#include "core/buf.h"

#define METERS BH_METER_DATABASE_COUNT

/* Counters of tenant ${no}: the first two meters, the others not said. */
static struct bh_link_counters
counters(int32_t no, int64_t first, int64_t second)
{
    struct bh_link_counters it = {.no = no};
    for (int i = 0; i < METERS; i++)
        it.values[i] = -1;
    it.values[0] = first;
    it.values[1] = second;
    return it;
}

/* "no:meter=value …" of what is to be told now; it has been told afterwards where ${keep}. */
static const char *
tell(
    struct bh_told *told, uint64_t epoch, struct bh_link_counters *tenants, size_t count, bool keep)
{
    static char text[512];
    struct bh_chunks memory;
    struct bh_link_usage usage = {.file_epoch = epoch, .tenants = tenants, .count = count};
    struct bh_usage_value *values;
    struct bh_error err;
    struct bh_buf buf;
    size_t changes;
    bh_chunks_init(&memory);
    bh_buf_init(&buf, text, sizeof(text));
    assert_int_equal(bh_told_changes(told, &usage, &memory.arena, &values, &changes, &err), BH_OK);
    for (size_t i = 0; i < changes; i++)
        bh_buf_printf(&buf, "%s%d:%s=%lld", i ? " " : "", values[i].no, values[i].meter,
            (long long)values[i].value);
    if (keep)
        bh_told_keep(told, &usage);
    bh_chunks_fini(&memory);
    return text;
}

static void
only_what_grew_is_told_again(void **state)
{
    (void)state;
    struct bh_told told = {0};
    struct bh_link_counters first[] = {counters(7, 5, 0), counters(3, 1, 2)};
    assert_string_equal(
        tell(&told, 1, first, 2, true), "3:db_statements=1 3:db_rows=2 7:db_statements=5");
    assert_string_equal(tell(&told, 1, first, 2, true), "");
    struct bh_link_counters later[] = {
        counters(9, 4, -1), counters(7, 6, 0), counters(3, 1, 2), counters(1, 0, 8)};
    assert_string_equal(
        tell(&told, 1, later, 4, true), "1:db_rows=8 7:db_statements=6 9:db_statements=4");
    assert_string_equal(tell(&told, 1, later, 4, true), "");
    bh_told_forget(&told);
}

static void
what_could_not_be_booked_is_told_again(void **state)
{
    (void)state;
    struct bh_told told = {0};
    struct bh_link_counters tenants[] = {counters(2, 5, 6)};
    assert_string_equal(tell(&told, 1, tenants, 1, false), "2:db_statements=5 2:db_rows=6");
    assert_string_equal(tell(&told, 1, tenants, 1, true), "2:db_statements=5 2:db_rows=6");
    assert_string_equal(tell(&told, 1, tenants, 1, true), "");
    bh_told_forget(&told);
    assert_string_equal(tell(&told, 1, tenants, 1, true), "2:db_statements=5 2:db_rows=6");
    bh_told_forget(&told);
}

static void
counters_of_another_epoch_are_told_whole(void **state)
{
    (void)state;
    struct bh_told told = {0};
    struct bh_link_counters tenants[] = {counters(2, 5, 6)};
    assert_string_equal(tell(&told, 1, tenants, 1, true), "2:db_statements=5 2:db_rows=6");
    assert_string_equal(tell(&told, 2, tenants, 1, true), "2:db_statements=5 2:db_rows=6");
    assert_string_equal(tell(&told, 2, tenants, 0, true), "");
    assert_string_equal(tell(&told, 2, tenants, 1, true), "2:db_statements=5 2:db_rows=6");
    bh_told_forget(&told);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_grew_is_told_again),
        cmocka_unit_test(what_could_not_be_booked_is_told_again),
        cmocka_unit_test(counters_of_another_epoch_are_told_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
