/*
 * The keyring file: the keys of one cell, as the agent fetched them, for the
 * edge to verify user tokens and mint tenant tokens.  Mode 0400, replaced by
 * rename.  Text, one item a line:
 *
 *   install <uid>
 *   cell <uid>
 *   user <key epoch> <64 hex digits> <not_before> <not_after>
 *   hash <64 hex digits: K_hash>
 *   seal <64 hex digits: K_seal>
 *   server <name> <kid> <64 hex digits: K_server> <not_before> <not_after>
 *
 * hash and seal may be absent (a control plane of an older version): what needs them is refused.
 */
#ifndef BH_SNAPSHOT_KEYRING_H
#define BH_SNAPSHOT_KEYRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/error.h"
#include "core/key.h"
#include "core/str.h"
#include "core/tenant.h"

#define BH_KEYRING_USERS_MAX 2
#define BH_KEYRING_SERVERS_MAX 64
#define BH_KEYRING_FILE_MAX 65536

struct bh_keyring {
    struct bh_uid install;
    struct bh_uid cell;
    bool has_hash;
    bool has_seal;
    struct bh_key hash; /* names the documents of API keys */
    struct bh_key seal; /* opens the private keys of certificates */
    size_t user_count;
    struct {
        uint32_t epoch;
        struct bh_key key;
        int64_t not_before_s;
        int64_t not_after_s;
    } users[BH_KEYRING_USERS_MAX];
    size_t server_count;
    struct {
        char name[BH_PGNAME];
        size_t row_count;
        struct bh_key_row rows[BH_KEY_ROWS_MAX];
    } servers[BH_KEYRING_SERVERS_MAX];
};

/** bh_keyring_parse(text, ret_keyring, err): BH_E_CONFIG naming the line, never its content. */
enum bh_code bh_keyring_parse(
    struct bh_str text, struct bh_keyring *ret_keyring, struct bh_error *err) BH_MUSTCHECK;

/** bh_keyring_format(keyring, out): append the file's text. */
void bh_keyring_format(const struct bh_keyring *keyring, struct bh_buf *out);

/** bh_keyring_load(path, ret_keyring, err): read the file; BH_E_NOT_READY where there is none. */
enum bh_code bh_keyring_load(
    const char *path, struct bh_keyring *ret_keyring, struct bh_error *err) BH_MUSTCHECK;

/** bh_keyring_store(path, keyring, err): replace the file atomically, mode 0400. */
enum bh_code bh_keyring_store(
    const char *path, const struct bh_keyring *keyring, struct bh_error *err) BH_MUSTCHECK;

/** bh_keyring_user(keyring, epoch, now_s): the user key of that epoch if it is valid now, or NULL.
 */
const struct bh_key *bh_keyring_user(
    const struct bh_keyring *keyring, uint32_t epoch, int64_t now_s);

/** bh_keyring_server(keyring, name, now_s): the row to mint with (valid now, newest not_before), or
 * NULL. */
const struct bh_key_row *bh_keyring_server(
    const struct bh_keyring *keyring, struct bh_str name, int64_t now_s);

#endif
