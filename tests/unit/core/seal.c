/* The table of sealed secrets is tests/golden/seal.json; here is what a table cannot say. */
#include "core/seal.h"

#include "tests/unit/core/test.h"

static const struct bh_key key = {.bytes = {1, 2, 3}};
static const uint8_t nonce[BH_SEAL_NONCE] = {9};

static void
the_largest_secret_comes_back_and_a_larger_one_is_refused(void **state)
{
    (void)state;
    size_t room = 2 * BH_SEAL_PLAIN_MAX;
    char *plain = malloc(room), *text = malloc(room), *opened = malloc(room);
    assert_true(plain && text && opened);
    memset(plain, 'k', room);
    struct bh_buf out, back;
    struct bh_error err;
    bh_buf_init(&out, text, room);
    bh_buf_init(&back, opened, room);
    struct bh_str most = {plain, BH_SEAL_PLAIN_MAX}, more = {plain, BH_SEAL_PLAIN_MAX + 1};
    assert_code(bh_seal(&key, nonce, BH_STR("n"), more, &out, &err), BH_E_TOO_LARGE);
    assert_int_equal(out.len, 0);
    assert_code(bh_seal(&key, nonce, BH_STR("n"), most, &out, &err), BH_OK);
    assert_code(bh_unseal(&key, BH_STR("n"), bh_buf_str(&out), &back, &err), BH_OK);
    assert_true(bh_str_eq(bh_buf_str(&back), most));
    free(plain);
    free(text);
    free(opened);
}

static void
a_buffer_without_room_is_told_and_holds_no_part(void **state)
{
    (void)state;
    char text[128], small[4];
    struct bh_buf out, back;
    struct bh_error err;
    bh_buf_init(&out, text, sizeof(text));
    bh_buf_init(&back, small, sizeof(small));
    assert_code(bh_seal(&key, nonce, BH_STR("n"), BH_STR("secret"), &out, &err), BH_OK);
    assert_code(bh_unseal(&key, BH_STR("n"), bh_buf_str(&out), &back, &err), BH_E_TOO_LARGE);
    assert_null(memchr(small, 's', sizeof(small)));
}

static void
a_refusal_says_nothing_of_what_was_sealed(void **state)
{
    (void)state;
    char text[128], room[64];
    struct bh_buf out, back;
    struct bh_error err;
    bh_buf_init(&out, text, sizeof(text));
    bh_buf_init(&back, room, sizeof(room));
    assert_code(bh_seal(&key, nonce, BH_STR("mine"), BH_STR("secret"), &out, &err), BH_OK);
    assert_code(bh_unseal(&key, BH_STR("yours"), bh_buf_str(&out), &back, &err), BH_E_INVALID);
    assert_int_equal(back.len, 0);
    assert_null(strstr(err.detail, "secret\""));
    assert_null(strstr(err.detail, text));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_largest_secret_comes_back_and_a_larger_one_is_refused),
        cmocka_unit_test(a_buffer_without_room_is_told_and_holds_no_part),
        cmocka_unit_test(a_refusal_says_nothing_of_what_was_sealed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
