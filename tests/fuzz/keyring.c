/* A keyring that is read can be written and read again, byte for byte. */
#include "tests/fuzz/fuzz.h"

#include "snapshot/keyring.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct bh_keyring keyring;
    static char first_room[BH_KEYRING_FILE_MAX + 1], second_room[BH_KEYRING_FILE_MAX + 1];
    struct bh_buf first, second;
    struct bh_error err = {0};
    enum bh_code code = bh_keyring_parse((struct bh_str){(const char *)data, size}, &keyring, &err);
    MUST(code == BH_OK || code == BH_E_CONFIG);
    if (code != BH_OK) {
        MUST(err.detail[0] != '\0');
        return 0;
    }
    MUST(keyring.user_count <= BH_KEYRING_USERS_MAX);
    MUST(keyring.server_count <= BH_KEYRING_SERVERS_MAX);
    for (size_t i = 0; i < keyring.server_count; i++)
        MUST(keyring.servers[i].row_count <= BH_KEY_ROWS_MAX);
    bh_buf_init(&first, first_room, sizeof(first_room));
    bh_buf_init(&second, second_room, sizeof(second_room));
    bh_keyring_format(&keyring, &first);
    MUST(bh_buf_ok(&first));
    MUST(bh_keyring_parse(bh_buf_str(&first), &keyring, &err) == BH_OK);
    bh_keyring_format(&keyring, &second);
    MUST(bh_str_eq(bh_buf_str(&first), bh_buf_str(&second)));
    return 0;
}
