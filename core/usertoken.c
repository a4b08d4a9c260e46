#include "core/usertoken.h"

#include "core/codec.h"
#include "core/json.h"
#include "core/token.h"

#define ISSUER "bulkhead"
#define TYPE "bh-user+jwt"

static enum bh_code
invalid(struct bh_error *err, const char *what)
{
    return bh_fail(err, BH_E_TOKEN_INVALID, "not a user token: %s", what);
}

/* Decodes and reads one part; what is wrong in it says no more than that. */
static enum bh_code
read_part(struct bh_str text, struct bh_arena *arena, const char *name, struct bh_json **ret_json,
    struct bh_error *err)
{
    uint8_t data[BH_USERTOKEN_MAX];
    size_t len;
    if (!bh_base64url_decode(text, data, sizeof(data), &len))
        return bh_fail(err, BH_E_TOKEN_INVALID, "not a user token: its %s is not base64url", name);
    struct bh_str json = {(const char *)data, len};
    enum bh_code code = bh_json_parse(json, BH_JSON_DEPTH, arena, ret_json, err);
    if (code == BH_E_BAD_REQUEST || (code == BH_OK && (*ret_json)->kind != BH_JSON_OBJECT))
        return bh_fail(err, BH_E_TOKEN_INVALID, "not a user token: its %s is no JSON object", name);
    return code;
}

static bool
get_text_that_is(const struct bh_json *object, const char *name, const char *value)
{
    struct bh_str text;
    return bh_json_string(object, name, &text) && bh_str_is(text, value);
}

static bool
get_time(const struct bh_json *object, const char *name, int64_t *ret_time_s)
{
    int64_t time_s;
    if (!bh_json_int(bh_json_get(object, name), &time_s) || time_s < 0)
        return false;
    *ret_time_s = time_s;
    return true;
}

static bool
read_kid(struct bh_str text, struct bh_usertoken_kid *ret_kid)
{
    struct bh_str no, tenant_epoch, key_epoch;
    uint64_t numbers[3];
    if (!bh_str_cut(text, '.', &no, &text) || !bh_str_cut(text, '.', &tenant_epoch, &key_epoch) ||
        !bh_str_uint(no, INT32_MAX, &numbers[0]) || numbers[0] == 0 ||
        !bh_str_uint(tenant_epoch, UINT32_MAX, &numbers[1]) ||
        !bh_str_uint(key_epoch, UINT32_MAX, &numbers[2]))
        return false;
    *ret_kid =
        (struct bh_usertoken_kid){(int32_t)numbers[0], (uint32_t)numbers[1], (uint32_t)numbers[2]};
    return true;
}

static enum bh_code
read_header(const struct bh_json *header, struct bh_usertoken *token, struct bh_error *err)
{
    struct bh_str kid;
    if (!get_text_that_is(header, "alg", "HS256"))
        return invalid(err, "its alg is not HS256");
    if (!get_text_that_is(header, "typ", TYPE))
        return invalid(err, "its typ is not " TYPE);
    if (bh_json_get(header, "crit") != NULL)
        return invalid(err, "it has a crit");
    if (!bh_json_string(header, "kid", &kid) || !read_kid(kid, &token->kid))
        return invalid(err, "its kid is wrong");
    return BH_OK;
}

static bool
is_list_of_strings(const struct bh_json *value)
{
    if (value->kind != BH_JSON_ARRAY)
        return false;
    for (const struct bh_json *item = value->first; item != NULL; item = item->next) {
        if (item->kind != BH_JSON_STRING)
            return false;
    }
    return true;
}

static enum bh_code
read_optional_claims(
    const struct bh_json *payload, struct bh_usertoken *token, struct bh_error *err)
{
    const struct bh_json *roles = bh_json_get(payload, "roles");
    token->roles = roles;
    token->scope = (struct bh_str){"", 0};
    token->nbf_s = token->iat_s;
    if (bh_json_get(payload, "nbf") != NULL && !get_time(payload, "nbf", &token->nbf_s))
        return invalid(err, "its nbf is wrong");
    if (roles != NULL && !is_list_of_strings(roles))
        return invalid(err, "its roles are no array of strings");
    if (bh_json_get(payload, "scope") != NULL &&
        (!bh_json_string(payload, "scope", &token->scope) || !bh_token_scope_valid(token->scope)))
        return invalid(err, "its scope is wrong");
    return BH_OK;
}

static enum bh_code
read_claims(const struct bh_json *payload, struct bh_usertoken *token, struct bh_error *err)
{
    if (!bh_json_string(payload, "iss", &token->issuer))
        return invalid(err, "its iss is no string");
    if (!bh_json_string(payload, "aud", &token->audience))
        return invalid(err, "its aud is no string");
    if (!bh_json_string(payload, "tenant", &token->tenant) ||
        bh_tenant_id_check(token->tenant, NULL) != BH_OK)
        return invalid(err, "its tenant is no tenant id");
    if (!bh_json_string(payload, "sub", &token->sub) || !bh_token_word_valid(token->sub))
        return invalid(err, "its sub is wrong");
    if (!get_time(payload, "iat", &token->iat_s))
        return invalid(err, "its iat is wrong");
    if (!get_time(payload, "exp", &token->exp_s))
        return invalid(err, "its exp is wrong");
    return read_optional_claims(payload, token, err);
}

enum bh_code
bh_usertoken_parse(struct bh_str text, struct bh_arena *arena, struct bh_usertoken *ret_token,
    struct bh_error *err)
{
    struct bh_str header_text, payload_text, mac_text;
    struct bh_json *header, *payload;
    struct bh_usertoken token = {.kid = {0, 0, 0}};
    size_t mac_len;
    if (text.len > BH_USERTOKEN_MAX)
        return invalid(err, "it is too long");
    if (!bh_str_cut(text, '.', &header_text, &payload_text) ||
        !bh_str_cut(payload_text, '.', &payload_text, &mac_text))
        return invalid(err, "it has not three parts");
    if (!bh_base64url_decode(mac_text, token.mac, sizeof(token.mac), &mac_len) ||
        mac_len != sizeof(token.mac))
        return invalid(err, "its signature is not 32 bytes of base64url");
    token.signed_part = (struct bh_str){text.data, header_text.len + 1 + payload_text.len};
    BH_TRY(read_part(header_text, arena, "header", &header, err));
    BH_TRY(read_header(header, &token, err));
    BH_TRY(read_part(payload_text, arena, "payload", &payload, err));
    BH_TRY(read_claims(payload, &token, err));
    *ret_token = token;
    return BH_OK;
}

static enum bh_code
check_mac(const struct bh_usertoken *token, struct bh_mac *mac, struct bh_error *err)
{
    uint8_t right[BH_MAC_BYTES];
    if (mac == NULL)
        return invalid(err, "no key that is valid now has its kid");
    BH_TRY(bh_mac_run(mac, token->signed_part, right, err));
    bool same = bh_equal_ct(right, token->mac, sizeof(right));
    bh_wipe(right, sizeof(right));
    return same ? BH_OK : invalid(err, "its signature is wrong");
}

/* All that makes a token worthless whoever shows it, and whenever later. */
static const char *
claims_problem(const struct bh_usertoken *token, const struct bh_usertoken_door *door)
{
    int64_t life_s = token->exp_s - token->iat_s;
    if (!bh_str_is(token->issuer, ISSUER))
        return "its iss is wrong";
    if (!bh_str_eq(token->audience, door->install))
        return "it is of another installation";
    if (life_s <= 0 || life_s > BH_USERTOKEN_LIFE_MAX_S)
        return "it lives longer than allowed, or not at all";
    if (token->iat_s > door->now_s + BH_TOKEN_LEEWAY_S)
        return "it is issued in the future";
    if (token->nbf_s > door->now_s + BH_TOKEN_LEEWAY_S)
        return "it is not valid yet";
    if (token->kid.no == door->no && token->kid.tenant_epoch != door->tenant_epoch)
        return "it is revoked";
    return NULL;
}

enum bh_code
bh_usertoken_check(const struct bh_usertoken *token, struct bh_mac *mac,
    const struct bh_usertoken_door *door, struct bh_error *err)
{
    BH_TRY(check_mac(token, mac, err));
    const char *problem = claims_problem(token, door);
    if (problem != NULL)
        return invalid(err, problem);
    bool expired = token->exp_s <= door->now_s - BH_TOKEN_LEEWAY_S;
    bool other = token->kid.no != door->no || !bh_str_eq(token->tenant, door->tenant);
    if (expired && other)
        return invalid(err, "it is of another tenant and has expired");
    if (expired)
        return bh_fail(err, BH_E_TOKEN_EXPIRED, "the user token has expired");
    if (other)
        return bh_fail(err, BH_E_TOKEN_TENANT_MISMATCH, "the user token is of another tenant");
    return BH_OK;
}

/* Name of the first value that no check would accept, or NULL. */
static const char *
bad_value(const struct bh_usertoken *token)
{
    if (token->kid.no < 1)
        return "kid";
    if (!bh_token_word_valid(token->audience))
        return "aud";
    if (bh_tenant_id_check(token->tenant, NULL) != BH_OK)
        return "tenant";
    if (!bh_token_word_valid(token->sub))
        return "sub";
    if (token->iat_s < 0)
        return "iat";
    if (token->exp_s < 0)
        return "exp";
    if (!bh_token_scope_valid(token->scope))
        return "scope";
    return NULL;
}

static void
put_header(struct bh_buf *buf, const struct bh_usertoken_kid *kid)
{
    bh_buf_printf(buf, "{\"alg\":\"HS256\",\"kid\":\"%d.%u.%u\",\"typ\":\"" TYPE "\"}", kid->no,
        kid->tenant_epoch, kid->key_epoch);
}

static void
put_claim(struct bh_buf *buf, const char *name, struct bh_str value)
{
    bh_buf_puts(buf, name);
    bh_buf_json(buf, value);
}

static void
put_payload(struct bh_buf *buf, const struct bh_usertoken *token)
{
    put_claim(buf, "{\"iss\":", BH_STR(ISSUER));
    put_claim(buf, ",\"aud\":", token->audience);
    put_claim(buf, ",\"tenant\":", token->tenant);
    put_claim(buf, ",\"sub\":", token->sub);
    bh_buf_puts(buf, ",\"iat\":");
    bh_buf_int(buf, token->iat_s);
    bh_buf_puts(buf, ",\"exp\":");
    bh_buf_int(buf, token->exp_s);
    if (token->scope.len > 0)
        put_claim(buf, ",\"scope\":", token->scope);
    bh_buf_putc(buf, '}');
}

enum bh_code
bh_usertoken_sign(
    struct bh_mac *mac, const struct bh_usertoken *token, struct bh_buf *out, struct bh_error *err)
{
    const char *bad = bad_value(token);
    if (bad != NULL)
        return bh_fail(err, BH_E_INVALID, "the value of \"%s\" cannot be in a user token", bad);
    char json_room[BH_USERTOKEN_MAX], text_room[BH_USERTOKEN_MAX + 1];
    struct bh_buf json, text;
    uint8_t tag[BH_MAC_BYTES];
    bh_buf_init(&json, json_room, sizeof(json_room));
    bh_buf_init(&text, text_room, sizeof(text_room));
    put_header(&json, &token->kid);
    bh_buf_base64url(&text, (const uint8_t *)json.data, json.len);
    bh_buf_putc(&text, '.');
    bh_buf_reset(&json);
    put_payload(&json, token);
    bh_buf_base64url(&text, (const uint8_t *)json.data, json.len);
    BH_TRY(bh_mac_run(mac, bh_buf_str(&text), tag, err));
    bh_buf_putc(&text, '.');
    bh_buf_base64url(&text, tag, sizeof(tag));
    if (bh_buf_ok(&json) && bh_buf_ok(&text))
        bh_buf_str_add(out, bh_buf_str(&text));
    if (!bh_buf_ok(&json) || !bh_buf_ok(&text) || !bh_buf_ok(out))
        return bh_fail(err, BH_E_TOO_LARGE, "the user token does not fit");
    return BH_OK;
}
