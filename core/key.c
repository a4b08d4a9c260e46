#include "core/key.h"

#include <stdlib.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "core/codec.h"
#include "core/token.h"

struct bh_mac {
    EVP_MAC_CTX *ctx;
    bool keyed; /* false after a failure: a MAC under an unknown key is worse than none */
};

static enum bh_code
crypto_failed(struct bh_error *err, const char *what)
{
    return bh_fail(err, BH_E_INTERNAL, "libcrypto failed at %s", what);
}

static void
put_be32(uint8_t *out, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(value >> (24 - 8 * i));
}

static bool
hkdf_run(const struct bh_key *master, const struct bh_uid *salt, const uint8_t *info,
    size_t info_len, struct bh_key *ret_key)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KDF_CTX *ctx = kdf == NULL ? NULL : EVP_KDF_CTX_new(kdf);
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_octet_string(
            OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)master->bytes, BH_KEY_BYTES),
        OSSL_PARAM_construct_octet_string(
            OSSL_KDF_PARAM_SALT, (void *)(uintptr_t)salt->bytes, sizeof(salt->bytes)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)(uintptr_t)info, info_len),
        OSSL_PARAM_construct_end(),
    };
    bool done = ctx != NULL && EVP_KDF_derive(ctx, ret_key->bytes, BH_KEY_BYTES, params) == 1;
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return done;
}

/* What a key is for: info = label with its NUL ‖ name, and be32(epoch) where it has one. */
struct purpose {
    struct bh_str label;
    const struct bh_uid *name;
    const uint32_t *epoch;
};

static enum bh_code
derive(const struct bh_key *master, const struct bh_uid *install, const struct purpose *purpose,
    struct bh_key *ret_key, struct bh_error *err)
{
    uint8_t info[64];
    size_t len = purpose->label.len;
    memcpy(info, purpose->label.data, len);
    memcpy(info + len, purpose->name->bytes, sizeof(purpose->name->bytes));
    len += sizeof(purpose->name->bytes);
    if (purpose->epoch != NULL) {
        put_be32(info + len, *purpose->epoch);
        len += 4;
    }
    struct bh_key key;
    if (!hkdf_run(master, install, info, len, &key))
        return crypto_failed(err, "HKDF");
    *ret_key = key;
    bh_wipe(&key, sizeof(key));
    return BH_OK;
}

enum bh_code
bh_key_server(const struct bh_key *master, const struct bh_uid *install,
    const struct bh_uid *server, uint32_t epoch, struct bh_key *ret_key, struct bh_error *err)
{
    struct purpose purpose = {BH_STR("bulkhead/v1/tenant\0"), server, &epoch};
    return derive(master, install, &purpose, ret_key, err);
}

enum bh_code
bh_key_cell_user(const struct bh_key *master, const struct bh_uid *install,
    const struct bh_uid *cell, uint32_t epoch, struct bh_key *ret_key, struct bh_error *err)
{
    struct purpose purpose = {BH_STR("bulkhead/v1/user\0"), cell, &epoch};
    return derive(master, install, &purpose, ret_key, err);
}

enum bh_code
bh_key_cell_hash(const struct bh_key *master, const struct bh_uid *install,
    const struct bh_uid *cell, struct bh_key *ret_key, struct bh_error *err)
{
    struct purpose purpose = {BH_STR("bulkhead/v1/hash\0"), cell, NULL};
    return derive(master, install, &purpose, ret_key, err);
}

enum bh_code
bh_key_cell_seal(const struct bh_key *master, const struct bh_uid *install,
    const struct bh_uid *cell, struct bh_key *ret_key, struct bh_error *err)
{
    struct purpose purpose = {BH_STR("bulkhead/v1/seal\0"), cell, NULL};
    return derive(master, install, &purpose, ret_key, err);
}

static enum bh_code
derive_by_mac(
    const struct bh_key *key, struct bh_str name, struct bh_key *ret_key, struct bh_error *err)
{
    struct bh_mac *mac;
    BH_TRY(bh_mac_new(key, &mac, err));
    enum bh_code code = bh_mac_run(mac, name, ret_key->bytes, err);
    bh_mac_free(mac);
    return code;
}

enum bh_code
bh_key_database(const struct bh_key *server_key, struct bh_str database, struct bh_key *ret_key,
    struct bh_error *err)
{
    return derive_by_mac(server_key, database, ret_key, err);
}

enum bh_code
bh_key_tenant_user(const struct bh_key *cell_key, const struct bh_uid *tenant,
    uint32_t tenant_epoch, struct bh_key *ret_key, struct bh_error *err)
{
    uint8_t name[sizeof(tenant->bytes) + 4];
    memcpy(name, tenant->bytes, sizeof(tenant->bytes));
    put_be32(name + sizeof(tenant->bytes), tenant_epoch);
    return derive_by_mac(cell_key, (struct bh_str){(const char *)name, sizeof(name)}, ret_key, err);
}

enum bh_code
bh_mac_new(const struct bh_key *key, struct bh_mac **ret_mac, struct bh_error *err)
{
    struct bh_mac *mac = calloc(1, sizeof(*mac));
    if (mac == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for a MAC");
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    mac->ctx = hmac == NULL ? NULL : EVP_MAC_CTX_new(hmac);
    EVP_MAC_free(hmac);
    enum bh_code code =
        mac->ctx == NULL ? crypto_failed(err, "EVP_MAC_CTX_new") : bh_mac_rekey(mac, key, err);
    if (code != BH_OK) {
        bh_mac_free(mac);
        return code;
    }
    *ret_mac = mac;
    return BH_OK;
}

void
bh_mac_free(struct bh_mac *mac)
{
    if (mac == NULL)
        return;
    EVP_MAC_CTX_free(mac->ctx); /* cleanses the key */
    free(mac);
}

enum bh_code
bh_mac_rekey(struct bh_mac *mac, const struct bh_key *key, struct bh_error *err)
{
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    mac->keyed = EVP_MAC_init(mac->ctx, key->bytes, BH_KEY_BYTES, params) == 1;
    return mac->keyed ? BH_OK : crypto_failed(err, "EVP_MAC_init");
}

enum bh_code
bh_mac_run(
    struct bh_mac *mac, struct bh_str data, uint8_t ret_mac[BH_MAC_BYTES], struct bh_error *err)
{
    uint8_t result[BH_MAC_BYTES];
    size_t len = 0;
    /* Without a key, init goes back to the state after the keying: that is what makes it fast. */
    if (!mac->keyed || EVP_MAC_init(mac->ctx, NULL, 0, NULL) != 1 ||
        EVP_MAC_update(mac->ctx, (const uint8_t *)data.data, data.len) != 1 ||
        EVP_MAC_final(mac->ctx, result, &len, sizeof(result)) != 1 || len != BH_MAC_BYTES)
        return crypto_failed(err, "HMAC");
    memcpy(ret_mac, result, BH_MAC_BYTES);
    return BH_OK;
}

bool
bh_kid_valid(struct bh_str kid)
{
    const char *dot = kid.len == 0 ? NULL : memrchr(kid.data, '.', kid.len);
    if (dot == NULL || kid.len >= BH_KID_MAX)
        return false;
    struct bh_str server = {kid.data, (size_t)(dot - kid.data)};
    struct bh_str epoch = {dot + 1, kid.len - server.len - 1};
    uint64_t number;
    return bh_token_word_valid(server) && memchr(server.data, '/', server.len) == NULL &&
           bh_str_uint(epoch, UINT32_MAX, &number);
}

static bool
parse_row(struct bh_str line, struct bh_key_row *ret_row)
{
    struct bh_str kid, hex, not_before, not_after;
    uint64_t from, to;
    if (!bh_str_cut(line, ' ', &kid, &line) || !bh_str_cut(line, ' ', &hex, &line) ||
        !bh_str_cut(line, ' ', &not_before, &not_after))
        return false;
    if (!bh_kid_valid(kid) || !bh_hex_decode(hex, ret_row->key.bytes, BH_KEY_BYTES) ||
        !bh_str_uint(not_before, INT64_MAX, &from) || !bh_str_uint(not_after, INT64_MAX, &to) ||
        from >= to)
        return false;
    memcpy(ret_row->kid, kid.data, kid.len);
    ret_row->kid[kid.len] = '\0';
    ret_row->not_before_s = (int64_t)from;
    ret_row->not_after_s = (int64_t)to;
    return true;
}

static bool
has_kid(const struct bh_key_row *rows, size_t count, const char *kid)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(rows[i].kid, kid) == 0)
            return true;
    }
    return false;
}

/* What is wrong with ${line} as row ${count}, or NULL. */
static const char *
read_row(struct bh_str line, struct bh_key_row *rows, size_t count)
{
    if (count == BH_KEY_ROWS_MAX)
        return "more than four rows";
    if (!parse_row(line, &rows[count]))
        return "not <kid> <64 hex digits> <not_before> <not_after>";
    if (has_kid(rows, count, rows[count].kid))
        return "kid stands on an earlier line, too";
    return NULL;
}

enum bh_code
bh_key_file_parse(struct bh_str text, struct bh_key_row ret_rows[BH_KEY_ROWS_MAX],
    size_t *ret_count, struct bh_error *err)
{
    struct bh_key_row rows[BH_KEY_ROWS_MAX] = {0};
    size_t count = 0;
    const char *problem = NULL;
    while (text.len > 0 && problem == NULL) {
        struct bh_str line = text, rest = {text.data + text.len, 0};
        bh_str_cut(text, '\n', &line, &rest);
        problem = read_row(line, rows, count);
        count++;
        text = rest;
    }
    if (problem == NULL) {
        memcpy(ret_rows, rows, count * sizeof(rows[0]));
        *ret_count = count;
    }
    bh_wipe(rows, sizeof(rows));
    if (problem != NULL)
        return bh_fail(err, BH_E_CONFIG, "key file, line %zu: %s", count, problem);
    return BH_OK;
}
