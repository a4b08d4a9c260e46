/* The keyring file: round trip, what it refuses, which key counts when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/keyring.h"

#define HEX "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define HEAD                                                                                       \
    "install 01890a5d-ac96-774b-bcce-b302099a8057\ncell 01890a5d-ac96-774b-bcce-b302099a8058\n"
#define CELL_KEYS "hash " HEX "\nseal " HEX "\n"
#define GOOD                                                                                       \
    HEAD CELL_KEYS "user 1 " HEX " 100 200\nuser 2 " HEX " 150 300\n"                              \
                   "server main main.1 " HEX " 100 200\nserver main main.2 " HEX " 150 300\n"      \
                   "server big big.1 " HEX " 0 9\n"

static void
test_round_trip(void **state)
{
    (void)state;
    struct bh_keyring keyring;
    struct bh_error err;
    if (bh_keyring_parse(BH_STR(GOOD), &keyring, &err) != BH_OK) {
        fail_msg("%s", err.detail);
    }
    assert_int_equal(keyring.user_count, 2);
    assert_int_equal(keyring.server_count, 2);
    assert_int_equal(keyring.servers[0].row_count, 2);
    assert_int_equal(keyring.users[0].key.bytes[1], 0x11);
    assert_true(keyring.has_hash && keyring.has_seal);
    assert_int_equal(keyring.hash.bytes[1], 0x11);
    assert_int_equal(keyring.seal.bytes[31], 0xff);
    char text[4096];
    struct bh_buf out;
    bh_buf_init(&out, text, sizeof(text));
    bh_keyring_format(&keyring, &out);
    assert_true(bh_buf_ok(&out));
    assert_string_equal(text, GOOD);
}

static void
test_validity(void **state)
{
    (void)state;
    struct bh_keyring keyring;
    assert_int_equal(bh_keyring_parse(BH_STR(GOOD), &keyring, NULL), BH_OK);
    assert_null(bh_keyring_user(&keyring, 1, 99));
    assert_ptr_equal(bh_keyring_user(&keyring, 1, 100), &keyring.users[0].key);
    assert_null(bh_keyring_user(&keyring, 1, 200));
    assert_ptr_equal(bh_keyring_user(&keyring, 2, 200), &keyring.users[1].key);
    assert_null(bh_keyring_user(&keyring, 3, 160));
    assert_string_equal(bh_keyring_server(&keyring, BH_STR("main"), 120)->kid, "main.1");
    assert_string_equal(bh_keyring_server(&keyring, BH_STR("main"), 160)->kid, "main.2");
    assert_null(bh_keyring_server(&keyring, BH_STR("main"), 300));
    assert_null(bh_keyring_server(&keyring, BH_STR("other"), 160));
}

static void
test_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "install 01890a5d-ac96-774b-bcce-b302099a8057\n",
        HEAD "user 1 " HEX " 100 200", /* no end of line */
        HEAD "user 1 " HEX " 100\n",
        HEAD "user 1 " HEX " 100 200 300\n",
        HEAD "user -1 " HEX " 100 200\n",
        HEAD "user 1  " HEX " 100 200\n",
        HEAD "user 1 " HEX "0 100 200\n",
        HEAD "user 1 " HEX " 100 200\nuser 1 " HEX " 100 200\n",
        HEAD "user 1 " HEX " 1 2\nuser 2 " HEX " 1 2\nuser 3 " HEX " 1 2\n",
        HEAD "server main main.1 " HEX " 1 2\nserver main main.1 " HEX " 1 2\n",
        HEAD "server main main.1 " HEX " 1 2 3\n",
        HEAD HEAD,
        HEAD "hash " HEX "\nhash " HEX "\n",
        HEAD "seal " HEX "0\n",
        HEAD "seal " HEX " 1 2\n",
        HEAD "\n",
        HEAD "password x\n",
    };
    struct bh_keyring keyring;
    struct bh_error err;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (bh_keyring_parse(bh_str_of(bad[i]), &keyring, &err) != BH_E_CONFIG) {
            fail_msg("accepted: %s", bad[i]);
        }
        assert_null(strstr(err.detail, "0011")); /* never the content */
    }
}

static void
test_file(void **state)
{
    (void)state;
    char dir[] = "/tmp/bh-keyring-XXXXXX";
    assert_non_null(mkdtemp(dir));
    char path[64];
    snprintf(path, sizeof(path), "%s/keyring", dir);
    struct bh_keyring keyring;
    struct bh_keyring loaded;
    memset(&keyring, 0, sizeof(keyring)); /* padding too: compared below */
    memset(&loaded, 0, sizeof(loaded));
    assert_int_equal(bh_keyring_load(path, &loaded, NULL), BH_E_NOT_READY);
    assert_int_equal(bh_keyring_parse(BH_STR(GOOD), &keyring, NULL), BH_OK);
    for (int i = 0; i < 2; i++) { /* the second replaces a file of mode 0400 */
        assert_int_equal(bh_keyring_store(path, &keyring, NULL), BH_OK);
    }
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0400);
    assert_int_equal(bh_keyring_load(path, &loaded, NULL), BH_OK);
    assert_memory_equal(&keyring, &loaded, sizeof(keyring));
    assert_int_equal(chmod(path, 0444), 0);
    assert_int_equal(bh_keyring_load(path, &loaded, NULL), BH_E_CONFIG);
    unlink(path);
    rmdir(dir);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_validity),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
