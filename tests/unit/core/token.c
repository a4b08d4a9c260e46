/* The table of tokens is tests/golden/token.json; here is what a table cannot say. */
#include "tests/unit/core/test.h"

#include "core/token.h"

#define NOW INT64_C(1790000000)

struct fixture {
    struct bh_mac *mac;
    struct bh_token token;
    char room[BH_TOKEN_MAX + 1];
    struct bh_buf text;
};

static void
set_up(struct fixture *f)
{
    struct bh_key key = {{1, 2, 3}};
    assert_code(bh_mac_new(&key, &f->mac, NULL), BH_OK);
    f->token = (struct bh_token){.server = BH_STR("main"),
        .database = BH_STR("shared1"),
        .exp_s = NOW + 60,
        .iat_s = NOW,
        .no = 42,
        .scope = BH_STR("a b"),
        .sub = BH_STR("u1"),
        .tenant = BH_STR("acme"),
        .use = BH_TOKEN_REQUEST,
        .epoch = 3};
    bh_buf_init(&f->text, f->room, sizeof(f->room));
}

static void
tear_down(struct fixture *f)
{
    bh_mac_free(f->mac);
}

static enum bh_code
sign(struct fixture *f)
{
    bh_buf_reset(&f->text);
    return bh_token_sign(f->mac, BH_STR("main.1"), &f->token, &f->text, NULL);
}

static enum bh_code
judge(struct fixture *f, struct bh_str text, int64_t now_s)
{
    struct bh_token_parts parts;
    char *copy = exact_copy(text.data, text.len);
    enum bh_code code = bh_token_parse((struct bh_str){copy, text.len}, &parts, NULL);
    if (code == BH_OK)
        code = bh_token_check(&parts, f->mac, BH_STR("main"), BH_STR("shared1"), now_s, NULL);
    free(copy);
    return code;
}

static void
every_truncation_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    assert_code(sign(&f), BH_OK);
    assert_code(judge(&f, bh_buf_str(&f.text), NOW), BH_OK);
    for (size_t len = 0; len < f.text.len; len++)
        assert_code(judge(&f, (struct bh_str){f.room, len}, NOW), BH_E_TOKEN_INVALID);
    for (size_t skip = 1; skip < f.text.len; skip++)
        assert_code(
            judge(&f, (struct bh_str){f.room + skip, f.text.len - skip}, NOW), BH_E_TOKEN_INVALID);
    tear_down(&f);
}

static void
every_change_of_a_single_byte_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    assert_code(sign(&f), BH_OK);
    for (size_t i = 0; i < f.text.len; i++) {
        char kept = f.room[i];
        for (int c = 0; c < 256; c++) {
            if ((char)c == kept)
                continue;
            f.room[i] = (char)c;
            assert_code(judge(&f, bh_buf_str(&f.text), NOW), BH_E_TOKEN_INVALID);
        }
        f.room[i] = kept;
    }
    assert_code(judge(&f, bh_buf_str(&f.text), NOW), BH_OK);
    tear_down(&f);
}

static void
every_inserted_or_removed_byte_is_refused(void **state)
{
    (void)state;
    static const char inserted[] = "A.= \n\"";
    struct fixture f;
    set_up(&f);
    assert_code(sign(&f), BH_OK);
    char bent[BH_TOKEN_MAX + 2];
    size_t len = f.text.len;
    for (size_t i = 0; i <= len; i++) {
        memcpy(bent, f.room, i);
        memcpy(bent + i + 1, f.room + i, len - i);
        for (size_t k = 0; k < sizeof(inserted); k++) {
            bent[i] = inserted[k];
            assert_code(judge(&f, (struct bh_str){bent, len + 1}, NOW), BH_E_TOKEN_INVALID);
        }
    }
    for (size_t i = 0; i < len; i++) {
        memcpy(bent, f.room, i);
        memcpy(bent + i, f.room + i + 1, len - i - 1);
        assert_code(judge(&f, (struct bh_str){bent, len - 1}, NOW), BH_E_TOKEN_INVALID);
    }
    tear_down(&f);
}

static void
a_token_is_good_from_five_seconds_before_to_less_than_five_after(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    assert_code(sign(&f), BH_OK);
    struct bh_str text = bh_buf_str(&f.text);
    assert_code(judge(&f, text, NOW - 6), BH_E_TOKEN_INVALID);
    assert_code(judge(&f, text, NOW - 5), BH_OK);
    assert_code(judge(&f, text, NOW + 60), BH_OK);
    assert_code(judge(&f, text, NOW + 64), BH_OK);
    assert_code(judge(&f, text, NOW + 65), BH_E_TOKEN_EXPIRED);
    assert_code(judge(&f, text, NOW + 300), BH_E_TOKEN_EXPIRED);
    assert_code(judge(&f, text, NOW - 300), BH_E_TOKEN_INVALID);
    tear_down(&f);
}

static void
a_token_lives_at_most_a_minute_and_a_job_an_hour(void **state)
{
    (void)state;
    static const struct {
        enum bh_token_use use;
        int64_t life_s;
        enum bh_code code;
    } rows[] = {{BH_TOKEN_REQUEST, 0, BH_E_TOKEN_INVALID}, {BH_TOKEN_REQUEST, 1, BH_OK},
        {BH_TOKEN_REQUEST, 60, BH_OK}, {BH_TOKEN_REQUEST, 61, BH_E_TOKEN_INVALID},
        {BH_TOKEN_REQUEST, -1, BH_E_TOKEN_INVALID}, {BH_TOKEN_JOB, 61, BH_OK},
        {BH_TOKEN_JOB, 3600, BH_OK}, {BH_TOKEN_JOB, 3601, BH_E_TOKEN_INVALID},
        {BH_TOKEN_JOB, 0, BH_E_TOKEN_INVALID}, {BH_TOKEN_JOB, INT64_MAX - NOW, BH_E_TOKEN_INVALID}};
    struct fixture f;
    set_up(&f);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        f.token.use = rows[i].use;
        f.token.exp_s = f.token.iat_s + rows[i].life_s;
        assert_code(sign(&f), BH_OK);
        assert_code(judge(&f, bh_buf_str(&f.text), NOW), rows[i].code);
    }
    f.token.iat_s = 0;
    f.token.exp_s = INT64_MAX;
    assert_code(sign(&f), BH_OK);
    assert_code(judge(&f, bh_buf_str(&f.text), NOW), BH_E_TOKEN_INVALID);
    tear_down(&f);
}

/* ${spoil} changes one value of the token so that it cannot be signed. */
#define REFUSED(spoil)                                                                             \
    do {                                                                                           \
        struct bh_token kept = f.token;                                                            \
        spoil;                                                                                     \
        assert_code(sign(&f), BH_E_INVALID);                                                       \
        assert_int_equal(f.text.len, 0);                                                           \
        f.token = kept;                                                                            \
        assert_code(sign(&f), BH_OK);                                                              \
    } while (0)

static void
values_that_cannot_be_in_a_token_are_not_signed(void **state)
{
    (void)state;
    static char many[256];
    memset(many, 's', sizeof(many));
    struct fixture f;
    set_up(&f);
    REFUSED(f.token.sub = BH_STR(""));
    REFUSED(f.token.sub = BH_STR("a b"));
    REFUSED(f.token.sub = BH_STR("a\"b"));
    REFUSED(f.token.sub = BH_STR("a\\b"));
    REFUSED(f.token.sub = BH_STR("a\0b"));
    REFUSED(f.token.sub = BH_STR("\xc3\xa4"));
    REFUSED(f.token.sub = ((struct bh_str){many, 256}));
    REFUSED(f.token.scope = BH_STR(" a"));
    REFUSED(f.token.scope = BH_STR("a  b"));
    REFUSED(f.token.scope = ((struct bh_str){many, 256}));
    REFUSED(f.token.server = BH_STR("a/b"));
    REFUSED(f.token.server = BH_STR(""));
    REFUSED(f.token.server = ((struct bh_str){many, 64}));
    REFUSED(f.token.database = BH_STR(""));
    REFUSED(f.token.database = BH_STR("a\"b"));
    REFUSED(f.token.database = ((struct bh_str){many, 64}));
    REFUSED(f.token.tenant = BH_STR("Acme"));
    REFUSED(f.token.tenant = BH_STR("www"));
    REFUSED(f.token.no = 0);
    REFUSED(f.token.no = -1);
    REFUSED(f.token.iat_s = -1);
    REFUSED(f.token.exp_s = -1);
    assert_code(bh_token_sign(f.mac, BH_STR("main"), &f.token, &f.text, NULL), BH_E_INVALID);
    tear_down(&f);
}

static void
what_does_not_fit_the_buffer_is_too_large(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    assert_code(sign(&f), BH_OK);
    size_t len = f.text.len;
    bh_buf_init(&f.text, f.room, len + 1);
    assert_code(sign(&f), BH_OK);
    bh_buf_init(&f.text, f.room, len);
    assert_code(sign(&f), BH_E_TOO_LARGE);
    tear_down(&f);
}

static void
the_longest_values_make_a_token_that_fits(void **state)
{
    (void)state;
    static char many[256];
    memset(many, 's', sizeof(many));
    struct fixture f;
    set_up(&f);
    f.token = (struct bh_token){.server = {many, 63},
        .database = {many, 63},
        .exp_s = INT64_MAX,
        .iat_s = INT64_MAX - 1,
        .no = INT32_MAX,
        .scope = {many, 255},
        .sub = {many, 255},
        .tenant = {many, 48},
        .use = BH_TOKEN_JOB,
        .epoch = UINT32_MAX};
    char kid[BH_KID_MAX];
    memset(kid, 'k', sizeof(kid));
    memcpy(kid + 52, ".4294967295", 11);
    assert_code(bh_token_sign(f.mac, (struct bh_str){kid, 63}, &f.token, &f.text, NULL), BH_OK);
    assert_in_range(f.text.len, 1000, BH_TOKEN_MAX);
    struct bh_token_parts parts;
    assert_code(bh_token_parse(bh_buf_str(&f.text), &parts, NULL), BH_OK);
    assert_true(parts.claims.exp_s == INT64_MAX);
    tear_down(&f);
}

static void
a_token_of_100_kilobytes_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    char *text = malloc(100000);
    assert_non_null(text);
    memset(text, 'A', 100000);
    assert_code(judge(&f, (struct bh_str){text, 100000}, NOW), BH_E_TOKEN_INVALID);
    text[100] = text[200] = '.';
    assert_code(judge(&f, (struct bh_str){text, 100000}, NOW), BH_E_TOKEN_INVALID);
    free(text);
    tear_down(&f);
}

static void
words_and_scopes_have_the_alphabet_of_the_contract(void **state)
{
    (void)state;
    int words = 0, scopes = 0;
    for (int c = 0; c < 256; c++) {
        char text[] = {'a', (char)c, 'b'};
        words += bh_token_word_valid((struct bh_str){text, 3});
        scopes += bh_token_scope_valid((struct bh_str){text, 3});
    }
    assert_int_equal(words, 92); /* 94 graphic characters but for quote and backslash */
    assert_int_equal(scopes, 93);
    assert_false(bh_token_word_valid(BH_STR("")));
    assert_true(bh_token_scope_valid(BH_STR("")));
    assert_true(bh_token_word_valid(BH_STR("!")) && bh_token_word_valid(BH_STR("~")));
}

static void
a_scope_is_found_as_a_whole_word(void **state)
{
    (void)state;
    struct bh_token token = {.scope = BH_STR("orders anonymous x")};
    assert_true(bh_token_has_scope(&token, "orders"));
    assert_true(bh_token_has_scope(&token, "anonymous"));
    assert_true(bh_token_has_scope(&token, "x"));
    assert_false(bh_token_has_scope(&token, "anon"));
    assert_false(bh_token_has_scope(&token, "order"));
    assert_false(bh_token_has_scope(&token, ""));
    token.scope = BH_STR("");
    assert_false(bh_token_has_scope(&token, "x"));
    assert_false(bh_token_has_scope(&token, ""));
    token.scope = BH_STR("not-anonymous");
    assert_false(bh_token_has_scope(&token, "anonymous"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_change_of_a_single_byte_is_refused),
        cmocka_unit_test(every_inserted_or_removed_byte_is_refused),
        cmocka_unit_test(a_token_is_good_from_five_seconds_before_to_less_than_five_after),
        cmocka_unit_test(a_token_lives_at_most_a_minute_and_a_job_an_hour),
        cmocka_unit_test(values_that_cannot_be_in_a_token_are_not_signed),
        cmocka_unit_test(what_does_not_fit_the_buffer_is_too_large),
        cmocka_unit_test(the_longest_values_make_a_token_that_fits),
        cmocka_unit_test(a_token_of_100_kilobytes_is_refused),
        cmocka_unit_test(words_and_scopes_have_the_alphabet_of_the_contract),
        cmocka_unit_test(a_scope_is_found_as_a_whole_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
