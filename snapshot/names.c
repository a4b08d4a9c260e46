/* Texts that many records share, kept once under a number. */
#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

#include "snapshot/layout.h"

/* The highest number in use of a kind; 0 where there is none. */
static int
last_number(MDB_txn *txn, MDB_dbi table, enum bh_name_kind kind, uint32_t *ret_number)
{
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, table, &cursor);
    if (rc != 0) {
        return rc;
    }
    uint8_t bytes[BH_NAME_KEY] = {(uint8_t)(kind + 1)};
    MDB_val key = {sizeof(bytes), bytes};
    MDB_val value;
    rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    rc = mdb_cursor_get(cursor, &key, &value, rc == 0 ? MDB_PREV : MDB_LAST);
    *ret_number = 0;
    const uint8_t *k = key.mv_data;
    if (rc == 0 && key.mv_size == BH_NAME_KEY && k[0] == (uint8_t)kind) {
        *ret_number = (uint32_t)k[1] << 24 | (uint32_t)k[2] << 16 | (uint32_t)k[3] << 8 | k[4];
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int
add(MDB_txn *txn, const MDB_dbi tables[BH_TABLE_COUNT], MDB_val of, struct bh_str text,
    uint32_t *ret_number)
{
    enum bh_name_kind kind = (enum bh_name_kind) * (const uint8_t *)of.mv_data;
    uint32_t number;
    int rc = last_number(txn, tables[BH_TABLE_NAME], kind, &number);
    if (rc != 0) {
        return rc;
    }
    number++;
    uint8_t bytes[BH_NAME_KEY] = {(uint8_t)kind};
    bh_be32(number, bytes + 1);
    MDB_val key = {sizeof(bytes), bytes};
    MDB_val name = {text.len, (void *)(uintptr_t)text.data};
    MDB_val value = {sizeof(number), &number};
    rc = mdb_put(txn, tables[BH_TABLE_NAME], &key, &name, 0);
    rc = rc == 0 ? mdb_put(txn, tables[BH_TABLE_NAME_OF], &of, &value, 0) : rc;
    *ret_number = number;
    return rc;
}

int
bh_name_intern(MDB_txn *txn, const MDB_dbi tables[BH_TABLE_COUNT], enum bh_name_kind kind,
    struct bh_str text, uint32_t *ret_number)
{
    *ret_number = 0;
    if (text.len == 0) {
        return 0;
    }
    uint8_t bytes[BH_NAME_OF_KEY] = {(uint8_t)kind};
    if (EVP_Digest(text.data, text.len, bytes + 1, NULL, EVP_sha256(), NULL) != 1) {
        return ENOMEM;
    }
    MDB_val of = {sizeof(bytes), bytes};
    MDB_val value;
    int rc = mdb_get(txn, tables[BH_TABLE_NAME_OF], &of, &value);
    if (rc == 0 && value.mv_size == sizeof(*ret_number)) {
        memcpy(ret_number, value.mv_data, sizeof(*ret_number));
        return 0;
    }
    return rc == 0              ? MDB_CORRUPTED
           : rc == MDB_NOTFOUND ? add(txn, tables, of, text, ret_number)
                                : rc;
}
