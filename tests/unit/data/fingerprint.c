#include "tests/unit/core/test.h"

#include "data/fingerprint.h"

/* Of an exact copy, so that the sanitizer sees a byte read too many. */
static uint64_t
fingerprint(const char *sql)
{
    char *copy = exact_copy(sql, strlen(sql));
    uint64_t hash = bh_fingerprint((struct bh_str){copy, strlen(sql)});
    free(copy);
    return hash;
}

static void
assert_same(const char *const *texts)
{
    for (size_t i = 1; texts[i] != NULL; i++)
        if (fingerprint(texts[i]) != fingerprint(texts[0]))
            fail_msg("differs: %s", texts[i]);
}

static void
literals_parameters_and_white_space_do_not_count(void **state)
{
    (void)state;
    assert_same((const char *const[]){"SELECT * FROM t43.notes WHERE id = 1",
        "select *\n\tfrom T43.Notes where ID=2000000", "SELECT * FROM t43.notes WHERE id = $1",
        "SELECT * FROM t43.notes WHERE id = -1.5e-3", "SELECT * FROM t43.notes WHERE id =-1",
        "SELECT * FROM t43.notes WHERE id = .5", "SELECT * FROM t43.notes WHERE id = 'it''s'",
        "SELECT * FROM t43.notes WHERE id = E'\\' OR 1=1 --'",
        "SELECT * FROM t43.notes WHERE id = $x$ a $y$ ' $x$",
        "SELECT * FROM t43.notes WHERE id = $$;$$", "SELECT * FROM t43.notes WHERE id = N'a'",
        "SELECT * FROM \"t43\".\"notes\" WHERE id = x'ff'", "SELECT * FROM t43.notes WHERE id = 1;",
        "; SELECT * FROM t43.notes WHERE id = 1 ; ; ",
        "/* a /* nested */ ' */ SELECT * FROM t43.notes -- it's\n WHERE id = 1 -- end",
        "SELECT * FROM t43.notes WHERE id = 'never closed", NULL});
}

static void
lists_of_in_and_array_have_any_length(void **state)
{
    (void)state;
    assert_same((const char *const[]){"SELECT 1 WHERE a IN (1) AND b = ARRAY[2]",
        "SELECT 1 WHERE a IN (1,2,3) AND b = ARRAY['x', 'y']",
        "SELECT 1 WHERE a in ( $1 , -2, +.5 ) AND b = array[ 7,8 ]", NULL});
    assert_int_not_equal(fingerprint("SELECT f(1, 2)"), fingerprint("SELECT f(1)"));
    assert_int_not_equal(
        fingerprint("SELECT 1 WHERE a IN (1, b)"), fingerprint("SELECT 1 WHERE a IN (1)"));
    assert_int_not_equal(fingerprint("SELECT 1 IN (1), 2, 3"), fingerprint("SELECT 1 IN (1), 2"));
}

static void
another_shape_has_another_fingerprint(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "SELECT", "SELECT 1", "SELECT a", "SELECT \"A\"",
        "SELECT a b", "SELECT ab", "SELECT a, b", "SELECT a; b", "SELECT a - 1", "SELECT a -a",
        "SELECT a < = 1", "SELECT a <= 1", "SELECT (a)", "SELECT [a]", "SELECT a.b", "SELECT a : b",
        "SELECT a::b", "SELECT 'a' 'b'", "SELECT $a", "SELECT ,", "SELECT a;; SELECT b;",
        "DROP TABLE a", "SELECT a @- 1", "SELECT a @ 1", "\xc3\xa4", "\xc3\x84", "?", "'", NULL};
    for (size_t i = 0; texts[i] != NULL; i++)
        for (size_t j = 0; j < i; j++)
            if (fingerprint(texts[i]) == fingerprint(texts[j]))
                fail_msg("same: %s and %s", texts[j], texts[i]);
}

static void
what_lies_beyond_the_limit_does_not_count(void **state)
{
    (void)state;
    size_t len = BH_FINGERPRINT_MAX + 3;
    char *text = malloc(len);
    assert_non_null(text);
    memset(text, 'a', len);
    uint64_t limit = bh_fingerprint((struct bh_str){text, BH_FINGERPRINT_MAX});
    assert_true(bh_fingerprint((struct bh_str){text, len}) == limit);
    assert_true(bh_fingerprint((struct bh_str){text, BH_FINGERPRINT_MAX - 1}) != limit);
    free(text);
}

/* The registry keeps fingerprints: a new version must not change them. */
static void
fingerprints_last(void **state)
{
    (void)state;
    assert_true(fingerprint("") == UINT64_C(14695981039346656037));
    assert_true(fingerprint("SELECT 1") == UINT64_C(11674981762325873986));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(literals_parameters_and_white_space_do_not_count),
        cmocka_unit_test(lists_of_in_and_array_have_any_length),
        cmocka_unit_test(another_shape_has_another_fingerprint),
        cmocka_unit_test(what_lies_beyond_the_limit_does_not_count),
        cmocka_unit_test(fingerprints_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
