/* The keyring's JSON: right ones are read, wrong ones refused, and no error shows a key. */
#include "tests/unit/core/test.h"

#include <stdio.h>

#include "agent/keyring.h"

#define UID "0193e1b2-0000-7000-8000-000000000001"
#define KEY "deadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeefdeadbeef"
#define USER "{\"epoch\":7,\"key\":\"" KEY "\",\"not_before\":1,\"not_after\":9}"
#define ROW "{\"kid\":\"main.1\",\"key\":\"" KEY "\",\"not_before\":1,\"not_after\":9}"
#define SERVER(rows) "{\"name\":\"main\",\"uid\":\"" UID "\",\"keys\":[" rows "]}"
#define CELL_KEYS(hash, seal)                                                                      \
    "{\"install\":\"" UID "\",\"cell\":\"" UID "\",\"hash_key\":" hash ",\"seal_key\":" seal       \
    ",\"user_keys\":[],\"servers\":[]}"
#define RING(users, servers)                                                                       \
    "{\"install\":\"" UID "\",\"cell\":\"" UID "\",\"user_keys\":[" users                          \
    "],\"servers\":[" servers "]}"

static enum bh_code
parse(const char *text, struct bh_keyring *ret_keyring)
{
    struct bh_chunks chunks;
    struct bh_error err = {.code = BH_OK};
    bh_chunks_init(&chunks);
    enum bh_code code = bh_keyring_read(bh_str_of(text), &chunks.arena, ret_keyring, &err);
    bh_chunks_fini(&chunks);
    if (code != BH_OK) {
        assert_string_not_equal(err.detail, "");
        assert_null(strstr(err.detail, "dead"));
    }
    return code;
}

static void
reads(void **state)
{
    (void)state;
    static struct bh_keyring keyring;
    assert_code(parse(RING(USER, SERVER(ROW)), &keyring), BH_OK);
    assert_int_equal(keyring.user_count, 1);
    assert_int_equal(keyring.users[0].epoch, 7);
    assert_int_equal(keyring.users[0].key.bytes[0], 0xde);
    assert_int_equal(keyring.server_count, 1);
    assert_string_equal(keyring.servers[0].name, "main");
    assert_int_equal(keyring.servers[0].row_count, 1);
    assert_string_equal(keyring.servers[0].rows[0].kid, "main.1");
    assert_int_equal(keyring.servers[0].rows[0].not_after_s, 9);
    assert_code(parse(RING("", ""), &keyring), BH_OK);
    assert_int_equal(keyring.user_count, 0);
    assert_code(parse(RING(USER "," USER, SERVER(ROW "," ROW "," ROW "," ROW)), &keyring), BH_OK);
    assert_int_equal(keyring.servers[0].row_count, 4);
    assert_false(keyring.has_hash || keyring.has_seal);
    assert_code(parse(CELL_KEYS("\"" KEY "\"", "\"" KEY "\""), &keyring), BH_OK);
    assert_true(keyring.has_hash && keyring.has_seal);
    assert_int_equal(keyring.hash.bytes[3], 0xef);
    assert_int_equal(keyring.seal.bytes[0], 0xde);
}

static void
refuses(void **state)
{
    (void)state;
    static struct bh_keyring keyring;
    static const char *const cases[] = {
        "",
        "{}",
        CELL_KEYS("null", "\"" KEY "\""),
        CELL_KEYS("\"" KEY "\"", "\"" KEY "00\""),
        "[]",
        "{\"install\":\"" UID "\"}",
        RING(USER "," USER "," USER, ""),                        /* three user keys */
        RING(USER, SERVER(ROW "," ROW "," ROW "," ROW "," ROW)), /* five rows */
        RING("7", ""),
        RING("", "7"),
        RING("{\"epoch\":7,\"key\":\"dead\",\"not_before\":1,\"not_after\":9}", ""),
        RING("{\"epoch\":-1,\"key\":\"" KEY "\",\"not_before\":1,\"not_after\":9}", ""),
        RING("{\"epoch\":7,\"key\":\"" KEY "\",\"not_before\":9,\"not_after\":1}", ""),
        RING("{\"epoch\":7,\"key\":\"" KEY "\",\"not_before\":1}", ""),
        RING("", "{\"name\":\"a b\",\"keys\":[]}"),
        RING("", "{\"name\":\"\",\"keys\":[]}"),
        RING("", "{\"name\":\"a\\nuser 1\",\"keys\":[]}"),
        RING("", "{\"name\":\"main\"}"),
        RING("", SERVER("{\"kid\":\"x y\",\"key\":\"" KEY "\",\"not_before\":1,\"not_after\":9}")),
        RING("", SERVER("{\"kid\":\"\",\"key\":\"" KEY "\",\"not_before\":1,\"not_after\":9}")),
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum bh_code code = parse(cases[i], &keyring);
        if (code != BH_E_INVALID && code != BH_E_BAD_REQUEST)
            fail_msg("case %zu: %s", i, bh_code_slug(code));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads),
        cmocka_unit_test(refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
