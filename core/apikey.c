#include "core/apikey.h"

#include <openssl/evp.h>
#include <stddef.h>

#include "core/buf.h"
#include "core/fields.h"
#include "core/token.h"

static const char base62[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
#define MARK_LEN (sizeof(BH_APIKEY_MARK) - 1)

static bool
is_base62(struct bh_str text, size_t min, size_t max)
{
    bool ok = text.len >= min && text.len <= max;
    for (size_t i = 0; ok && i < text.len; i++) {
        char c = text.data[i];
        ok = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    }
    return ok;
}

bool
bh_apikey_valid(struct bh_str key)
{
    struct bh_str prefix, secret;
    if (key.len > BH_APIKEY_MAX || !bh_str_starts(key, BH_APIKEY_MARK))
        return false;
    struct bh_str rest = {key.data + MARK_LEN, key.len - MARK_LEN};
    return bh_str_cut(rest, '_', &prefix, &secret) && is_base62(prefix, 8, 32) &&
           is_base62(secret, 32, 96);
}

struct bh_str
bh_apikey_prefix(struct bh_str key)
{
    const char *end = memrchr(key.data, '_', key.len);
    return (struct bh_str){key.data, (size_t)(end - key.data)};
}

enum bh_code
bh_apikey_make(const uint8_t *random, size_t len, char ret_key[BH_APIKEY_MADE])
{
    struct bh_buf key;
    size_t at = 0;
    bh_buf_init(&key, ret_key, BH_APIKEY_MADE);
    bh_buf_puts(&key, BH_APIKEY_MARK);
    for (size_t made = 0; made < BH_APIKEY_PREFIX_BYTES + BH_APIKEY_SECRET_BYTES; made++) {
        while (at < len && random[at] >= 248) /* 4 × 62: each letter is as likely as another */
            at++;
        if (at == len)
            return BH_E_INVALID;
        if (made == BH_APIKEY_PREFIX_BYTES)
            bh_buf_putc(&key, '_');
        bh_buf_putc(&key, base62[random[at++] % 62]);
    }
    return BH_OK;
}

enum bh_code
bh_apikey_digest(
    struct bh_str key, uint8_t ret_digest[BH_APIKEY_DIGEST_BYTES], struct bh_error *err)
{
    return EVP_Digest(key.data, key.len, ret_digest, NULL, EVP_sha256(), NULL) == 1
               ? BH_OK
               : bh_fail(err, BH_E_INTERNAL, "libcrypto failed at SHA-256");
}

enum bh_code
bh_apikey_name(struct bh_mac *mac, const uint8_t digest[BH_APIKEY_DIGEST_BYTES],
    char ret_name[BH_APIKEY_NAME], struct bh_error *err)
{
    uint8_t name[BH_MAC_BYTES];
    struct bh_buf text;
    BH_TRY(
        bh_mac_run(mac, (struct bh_str){(const char *)digest, BH_APIKEY_DIGEST_BYTES}, name, err));
    bh_buf_init(&text, ret_name, BH_APIKEY_NAME);
    bh_buf_puts(&text, "key/");
    bh_buf_hex(&text, name, sizeof(name));
    return BH_OK;
}

/* ---- the document ---- */

struct text {
    struct bh_str sub, scope;
    const struct bh_json *roles;
    int64_t no, not_after_s, epoch;
};

static enum bh_code
check_sub(struct bh_str text, struct bh_error *err)
{
    return bh_token_word_valid(text) ? BH_OK
                                     : bh_fail(err, BH_E_INVALID, "is no subject of a token");
}

static enum bh_code
check_scope(struct bh_str text, struct bh_error *err)
{
    return bh_token_scope_valid(text) ? BH_OK
                                      : bh_fail(err, BH_E_INVALID, "is no scope of a token");
}

#define FIELD(member, text_, kind_, ...)                                                           \
    {                                                                                              \
        .name = (text_), .kind = (kind_), .offset = offsetof(struct text, member), __VA_ARGS__     \
    }

static const struct bh_field rows[] = {
    FIELD(no, "no", BH_FIELD_INT, .min = 1, .max = INT32_MAX, .required = true),
    FIELD(sub, "sub", BH_FIELD_STRING, .max = 255, .rule = check_sub, .required = true),
    FIELD(scope, "scope", BH_FIELD_STRING, .max = 255, .rule = check_scope),
    FIELD(roles, "roles", BH_FIELD_WORDS, .max = BH_APIKEY_ROLES_MAX, .rule = check_sub),
    FIELD(not_after_s, "not_after", BH_FIELD_INT, .min = 1, .max = INT64_C(253402300799)),
    FIELD(epoch, "epoch", BH_FIELD_INT, .min = 0, .max = UINT32_MAX),
};
static const struct bh_fields fields = {rows, sizeof(rows) / sizeof(rows[0])};

enum bh_code
bh_apikey_parse(
    struct bh_str text, struct bh_arena *arena, struct bh_apikey *ret_key, struct bh_error *err)
{
    struct bh_json *value;
    struct bh_issues issues;
    struct text read = {.scope = BH_STR(""), .epoch = -1};
    BH_TRY(bh_json_parse(text, BH_JSON_DEPTH, arena, &value, err));
    bh_issues_init(&issues, arena);
    bh_fields_read(&fields, value, &read, &issues);
    BH_TRY(bh_issues_code(&issues, err));
    *ret_key = (struct bh_apikey){.no = read.no,
        .sub = read.sub,
        .scope = read.scope,
        .roles = bh_words_of(read.roles, arena),
        .not_after_s = read.not_after_s,
        .epoch = read.epoch};
    if (read.roles != NULL && read.roles->first != NULL && ret_key->roles.count == 0)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for an API key");
    return BH_OK;
}
