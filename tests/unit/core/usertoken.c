/* The table of tokens is tests/golden/usertoken.json; here is what a table cannot say. */
#include "tests/unit/core/test.h"

#include "core/usertoken.h"

#define NOW INT64_C(1790000000)
#define INSTALL "01890a5d-ac96-774b-bcce-b302099a8057"

struct fixture {
    struct bh_mac *mac;
    struct bh_usertoken token;
    struct bh_usertoken_door door;
    char room[BH_USERTOKEN_MAX + 1];
    struct bh_buf text;
};

static void
set_up(struct fixture *f)
{
    struct bh_key key = {{9, 8, 7}};
    assert_code(bh_mac_new(&key, &f->mac, NULL), BH_OK);
    f->token = (struct bh_usertoken){.kid = {42, 3, 1},
        .tenant = BH_STR("acme"),
        .audience = BH_STR(INSTALL),
        .sub = BH_STR("u1"),
        .scope = BH_STR("a b"),
        .iat_s = NOW,
        .exp_s = NOW + 900};
    f->door = (struct bh_usertoken_door){.install = BH_STR(INSTALL),
        .tenant = BH_STR("acme"),
        .no = 42,
        .tenant_epoch = 3,
        .now_s = NOW};
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
    return bh_usertoken_sign(f->mac, &f->token, &f->text, NULL);
}

static enum bh_code
judge(struct fixture *f, struct bh_str text)
{
    struct bh_chunks chunks;
    struct bh_usertoken token;
    bh_chunks_init(&chunks);
    char *copy = exact_copy(text.data, text.len);
    enum bh_code code =
        bh_usertoken_parse((struct bh_str){copy, text.len}, &chunks.arena, &token, NULL);
    if (code == BH_OK)
        code = bh_usertoken_check(&token, f->mac, &f->door, NULL);
    free(copy);
    bh_chunks_fini(&chunks);
    return code;
}

static enum bh_code
sign_and_judge(struct fixture *f)
{
    assert_code(sign(f), BH_OK);
    return judge(f, bh_buf_str(&f->text));
}

static void
every_truncation_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    assert_code(sign_and_judge(&f), BH_OK);
    for (size_t len = 0; len < f.text.len; len++)
        assert_code(judge(&f, (struct bh_str){f.room, len}), BH_E_TOKEN_INVALID);
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
            assert_code(judge(&f, bh_buf_str(&f.text)), BH_E_TOKEN_INVALID);
        }
        f.room[i] = kept;
    }
    assert_code(judge(&f, bh_buf_str(&f.text)), BH_OK);
    tear_down(&f);
}

static void
what_is_signed_is_read_back(void **state)
{
    (void)state;
    struct fixture f;
    struct bh_chunks chunks;
    struct bh_usertoken token;
    set_up(&f);
    bh_chunks_init(&chunks);
    assert_code(sign(&f), BH_OK);
    assert_code(bh_usertoken_parse(bh_buf_str(&f.text), &chunks.arena, &token, NULL), BH_OK);
    assert_int_equal(token.kid.no, 42);
    assert_int_equal(token.kid.tenant_epoch, 3);
    assert_int_equal(token.kid.key_epoch, 1);
    assert_str(token.issuer, "bulkhead");
    assert_str(token.audience, INSTALL);
    assert_str(token.tenant, "acme");
    assert_str(token.sub, "u1");
    assert_str(token.scope, "a b");
    assert_int_equal(token.iat_s, NOW);
    assert_int_equal(token.nbf_s, NOW);
    assert_int_equal(token.exp_s, NOW + 900);
    bh_chunks_fini(&chunks);
    tear_down(&f);
}

static void
a_token_is_good_from_five_seconds_before_to_less_than_five_after(void **state)
{
    (void)state;
    static const struct {
        int64_t at;
        enum bh_code code;
    } rows[] = {{-300, BH_E_TOKEN_INVALID}, {-6, BH_E_TOKEN_INVALID}, {-5, BH_OK}, {0, BH_OK},
        {904, BH_OK}, {905, BH_E_TOKEN_EXPIRED}, {10000, BH_E_TOKEN_EXPIRED}};
    struct fixture f;
    set_up(&f);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        f.door.now_s = NOW + rows[i].at;
        assert_code(sign_and_judge(&f), rows[i].code);
    }
    tear_down(&f);
}

static void
a_token_lives_at_most_a_day(void **state)
{
    (void)state;
    static const struct {
        int64_t life_s;
        enum bh_code code;
    } rows[] = {{-1, BH_E_TOKEN_INVALID}, {0, BH_E_TOKEN_INVALID}, {1, BH_OK}, {86400, BH_OK},
        {86401, BH_E_TOKEN_INVALID}, {INT64_MAX - NOW, BH_E_TOKEN_INVALID}};
    struct fixture f;
    set_up(&f);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        f.token.exp_s = NOW + rows[i].life_s;
        assert_code(sign_and_judge(&f), rows[i].code);
    }
    tear_down(&f);
}

static void
another_door_is_a_mismatch_only_where_all_else_is_right(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    f.door.no = 7;
    f.door.tenant = BH_STR("globex");
    f.door.tenant_epoch = 1;
    assert_code(sign_and_judge(&f), BH_E_TOKEN_TENANT_MISMATCH);
    f.door.now_s = NOW + 905;
    assert_code(sign_and_judge(&f), BH_E_TOKEN_INVALID);
    f.door.now_s = NOW - 6;
    assert_code(sign_and_judge(&f), BH_E_TOKEN_INVALID);
    f.door.now_s = NOW;
    f.door.install = BH_STR("01890a5d-ac96-774b-bcce-b302099a8058");
    assert_code(sign_and_judge(&f), BH_E_TOKEN_INVALID);
    f.door.install = BH_STR(INSTALL);
    struct bh_key other = {{1}};
    assert_code(sign(&f), BH_OK);
    assert_code(bh_mac_rekey(f.mac, &other, NULL), BH_OK);
    assert_code(judge(&f, bh_buf_str(&f.text)), BH_E_TOKEN_INVALID);
    tear_down(&f);
}

static void
without_a_key_or_with_a_revoked_epoch_a_token_is_invalid(void **state)
{
    (void)state;
    struct fixture f;
    struct bh_chunks chunks;
    struct bh_usertoken token;
    set_up(&f);
    bh_chunks_init(&chunks);
    assert_code(sign(&f), BH_OK);
    assert_code(bh_usertoken_parse(bh_buf_str(&f.text), &chunks.arena, &token, NULL), BH_OK);
    assert_code(bh_usertoken_check(&token, f.mac, &f.door, NULL), BH_OK);
    assert_code(bh_usertoken_check(&token, NULL, &f.door, NULL), BH_E_TOKEN_INVALID);
    f.door.tenant_epoch = 4;
    assert_code(bh_usertoken_check(&token, f.mac, &f.door, NULL), BH_E_TOKEN_INVALID);
    f.door.tenant_epoch = 2;
    assert_code(bh_usertoken_check(&token, f.mac, &f.door, NULL), BH_E_TOKEN_INVALID);
    bh_chunks_fini(&chunks);
    tear_down(&f);
}

#define REFUSED(spoil)                                                                             \
    do {                                                                                           \
        struct bh_usertoken kept = f.token;                                                        \
        spoil;                                                                                     \
        assert_code(sign(&f), BH_E_INVALID);                                                       \
        assert_int_equal(f.text.len, 0);                                                           \
        f.token = kept;                                                                            \
        assert_code(sign(&f), BH_OK);                                                              \
    } while (0)

static void
values_that_no_check_accepts_are_not_signed(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    REFUSED(f.token.kid.no = 0);
    REFUSED(f.token.audience = BH_STR(""));
    REFUSED(f.token.tenant = BH_STR("Acme"));
    REFUSED(f.token.tenant = BH_STR(""));
    REFUSED(f.token.sub = BH_STR(""));
    REFUSED(f.token.sub = BH_STR("a b"));
    REFUSED(f.token.sub = BH_STR("\xc3\xa4"));
    REFUSED(f.token.scope = BH_STR("a  b"));
    REFUSED(f.token.iat_s = -1);
    REFUSED(f.token.exp_s = -1);
    bh_buf_init(&f.text, f.room, 50);
    assert_code(sign(&f), BH_E_TOO_LARGE);
    tear_down(&f);
}

static void
a_token_of_100_kilobytes_is_refused_before_it_is_decoded(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f);
    char *text = malloc(100000);
    assert_non_null(text);
    memset(text, 'A', 100000);
    text[1000] = text[90000] = '.';
    assert_code(judge(&f, (struct bh_str){text, 100000}), BH_E_TOKEN_INVALID);
    free(text);
    tear_down(&f);
}

static void *
alloc_nothing(void *host, size_t size)
{
    (void)host;
    (void)size;
    return NULL;
}

static void
a_lack_of_memory_is_no_verdict_on_the_token(void **state)
{
    (void)state;
    struct fixture f;
    struct bh_arena arena = {alloc_nothing, NULL};
    struct bh_usertoken token;
    set_up(&f);
    assert_code(sign(&f), BH_OK);
    assert_code(bh_usertoken_parse(bh_buf_str(&f.text), &arena, &token, NULL), BH_E_NO_MEMORY);
    tear_down(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(every_change_of_a_single_byte_is_refused),
        cmocka_unit_test(what_is_signed_is_read_back),
        cmocka_unit_test(a_token_is_good_from_five_seconds_before_to_less_than_five_after),
        cmocka_unit_test(a_token_lives_at_most_a_day),
        cmocka_unit_test(another_door_is_a_mismatch_only_where_all_else_is_right),
        cmocka_unit_test(without_a_key_or_with_a_revoked_epoch_a_token_is_invalid),
        cmocka_unit_test(values_that_no_check_accepts_are_not_signed),
        cmocka_unit_test(a_token_of_100_kilobytes_is_refused_before_it_is_decoded),
        cmocka_unit_test(a_lack_of_memory_is_no_verdict_on_the_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
