/*
 * Keys, and the HMAC that uses them.
 *
 * doc/contract/token.md gives the derivations.  A server's key opens no other
 * server, a database's key no other database, and a tenant's user key is
 * stored nowhere.  Every key is 32 bytes and is wiped by who holds it.
 */
#ifndef BH_CORE_KEY_H
#define BH_CORE_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "core/str.h"
#include "core/tenant.h"

#define BH_KEY_BYTES 32
#define BH_MAC_BYTES 32

struct bh_key {
    uint8_t bytes[BH_KEY_BYTES];
};

/**
 * bh_key_server(master, install, server, epoch, ret_key, err):
 * K_server = HKDF-SHA256(master, salt install, info "bulkhead/v1/tenant\0" ‖ server ‖ be32(epoch)).
 */
enum bh_code bh_key_server(const struct bh_key *master, const struct bh_uid *install,
    const struct bh_uid *server, uint32_t epoch, struct bh_key *ret_key,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_key_cell_user(...): K_user of a cell, info "bulkhead/v1/user\0" ‖ cell ‖ be32(epoch). */
enum bh_code bh_key_cell_user(const struct bh_key *master, const struct bh_uid *install,
    const struct bh_uid *cell, uint32_t epoch, struct bh_key *ret_key,
    struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_key_cell_hash(master, install, cell, ret_key, err) / bh_key_cell_seal(…):
 * K_hash and K_seal of a cell, info "bulkhead/v1/hash\0" (or "…/seal\0") ‖ cell.  They have no
 * epoch: names of documents and sealed bodies outlive the rotation of the other keys.
 */
enum bh_code bh_key_cell_hash(const struct bh_key *master, const struct bh_uid *install,
    const struct bh_uid *cell, struct bh_key *ret_key, struct bh_error *err) BH_MUSTCHECK;
enum bh_code bh_key_cell_seal(const struct bh_key *master, const struct bh_uid *install,
    const struct bh_uid *cell, struct bh_key *ret_key, struct bh_error *err) BH_MUSTCHECK;

/** bh_key_database(server_key, database, ret_key, err): HMAC-SHA256(K_server, database name). */
enum bh_code bh_key_database(const struct bh_key *server_key, struct bh_str database,
    struct bh_key *ret_key, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_key_tenant_user(cell_key, tenant, tenant_epoch, ret_key, err): HMAC-SHA256(K_user, uid ‖
 * be32(tenant epoch)).
 */
enum bh_code bh_key_tenant_user(const struct bh_key *cell_key, const struct bh_uid *tenant,
    uint32_t tenant_epoch, struct bh_key *ret_key, struct bh_error *err) BH_MUSTCHECK;

/* A keyed HMAC-SHA256 that is ready to run again and again (0.3 µs each). */
struct bh_mac;

/**
 * bh_mac_new(key, ret_mac, err) / bh_mac_free(mac):
 * malloc a MAC keyed with ${key}, which it copies; free it (NULL is fine).
 * One thread at a time may use it.
 */
enum bh_code bh_mac_new(
    const struct bh_key *key, struct bh_mac **ret_mac, struct bh_error *err) BH_MUSTCHECK;
void bh_mac_free(struct bh_mac *mac);

/** bh_mac_rekey(mac, key, err): use ${key} from now on. */
enum bh_code bh_mac_rekey(
    struct bh_mac *mac, const struct bh_key *key, struct bh_error *err) BH_MUSTCHECK;

/** bh_mac_run(mac, data, ret_mac, err): the MAC of ${data}. */
enum bh_code bh_mac_run(struct bh_mac *mac, struct bh_str data, uint8_t ret_mac[BH_MAC_BYTES],
    struct bh_error *err) BH_MUSTCHECK;

/*
 * A row of a key file: `<kid> <64 hex digits> <not_before> <not_after>`.
 */
#define BH_KID_MAX 64

/**
 * bh_kid_valid(kid):
 * Is ${kid} `<server>.<key epoch>`: a word of the token's alphabet without a slash, a dot, and
 * an unsigned 32-bit number; at most 63 bytes?
 */
bool bh_kid_valid(struct bh_str kid);

struct bh_key_row {
    char kid[BH_KID_MAX]; /* "<server>.<key epoch>" */
    struct bh_key key;
    int64_t not_before_s;
    int64_t not_after_s;
};

#define BH_KEY_ROWS_MAX 4

/**
 * bh_key_file_parse(text, ret_rows, ret_count, err):
 * Read the rows of a server's key file: at most four lines, single spaces, a
 * newline ends each (the last may lack it), no kid twice.  Anything else:
 * BH_E_CONFIG naming the line, and never its content.  An empty file has 0 rows.
 */
enum bh_code bh_key_file_parse(struct bh_str text, struct bh_key_row ret_rows[BH_KEY_ROWS_MAX],
    size_t *ret_count, struct bh_error *err) BH_MUSTCHECK;

#endif
