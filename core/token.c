#include "core/token.h"

#include "core/codec.h"
#include "core/tenant.h"

#define DATABASE_MAX 63
#define SERVER_MAX 63

static bool
is_word_byte(char c)
{
    return c > ' ' && c <= '~' && c != '"' && c != '\\';
}

bool
bh_token_word_valid(struct bh_str s)
{
    if (s.len == 0 || s.len > BH_TOKEN_SUB_MAX)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (!is_word_byte(s.data[i]))
            return false;
    }
    return true;
}

bool
bh_token_scope_valid(struct bh_str s)
{
    if (s.len > BH_TOKEN_SCOPE_MAX)
        return false;
    bool in_word = false;
    for (size_t i = 0; i < s.len; i++) {
        bool space = s.data[i] == ' ';
        if (space ? !in_word : !is_word_byte(s.data[i]))
            return false;
        in_word = !space;
    }
    return in_word || s.len == 0;
}

bool
bh_token_has_scope(const struct bh_token *token, const char *word)
{
    struct bh_str rest = token->scope, head;
    while (bh_str_cut(rest, ' ', &head, &rest)) {
        if (bh_str_is(head, word))
            return true;
    }
    return rest.len > 0 && bh_str_is(rest, word);
}

/* The server stands before the first slash of aud, so it can hold none itself. */
static bool
audience_valid(struct bh_str server, struct bh_str database)
{
    return bh_token_word_valid(server) && server.len <= SERVER_MAX &&
           memchr(server.data, '/', server.len) == NULL && bh_token_word_valid(database) &&
           database.len <= DATABASE_MAX;
}

/* Name of the first member that cannot be in a token, or NULL. */
static const char *
bad_member(struct bh_str kid, const struct bh_token *token)
{
    if (!bh_kid_valid(kid))
        return "kid";
    if (!audience_valid(token->server, token->database))
        return "aud";
    if (token->exp_s < 0)
        return "exp";
    if (token->iat_s < 0)
        return "iat";
    if (token->no < 1)
        return "no";
    if (!bh_token_scope_valid(token->scope))
        return "scope";
    if (!bh_token_word_valid(token->sub))
        return "sub";
    if (bh_tenant_id_check(token->tenant, NULL) != BH_OK)
        return "tenant";
    return NULL;
}

/* ${name} is the member with all that stands before its value. */
static void
put_text(struct bh_buf *buf, const char *name, struct bh_str value)
{
    bh_buf_puts(buf, name);
    bh_buf_str_add(buf, value);
}

static void
put_number(struct bh_buf *buf, const char *name, int64_t value)
{
    bh_buf_puts(buf, name);
    bh_buf_int(buf, value);
}

static void
put_header(struct bh_buf *buf, struct bh_str kid)
{
    put_text(buf, "{\"alg\":\"HS256\",\"kid\":\"", kid);
    bh_buf_puts(buf, "\",\"typ\":\"bh-tenant+jwt\"}");
}

static void
put_payload(struct bh_buf *buf, const struct bh_token *token)
{
    put_text(buf, "{\"aud\":\"", token->server);
    put_text(buf, "/", token->database);
    put_number(buf, "\",\"exp\":", token->exp_s);
    put_number(buf, ",\"iat\":", token->iat_s);
    put_number(buf, ",\"no\":", token->no);
    put_text(buf, ",\"scope\":\"", token->scope);
    put_text(buf, "\",\"sub\":\"", token->sub);
    put_text(buf, "\",\"tenant\":\"", token->tenant);
    put_text(buf, "\",\"use\":\"", token->use == BH_TOKEN_JOB ? BH_STR("job") : BH_STR("req"));
    put_number(buf, "\",\"ver\":", token->epoch);
    bh_buf_putc(buf, '}');
}

static void
put_base64(struct bh_buf *buf, const struct bh_buf *data)
{
    bh_buf_base64url(buf, (const uint8_t *)data->data, data->len);
}

enum bh_code
bh_token_sign(struct bh_mac *mac, struct bh_str kid, const struct bh_token *token,
    struct bh_buf *out, struct bh_error *err)
{
    const char *bad = bad_member(kid, token);
    if (bad != NULL)
        return bh_fail(err, BH_E_INVALID, "the value of \"%s\" cannot be in a tenant token", bad);
    char json_room[BH_TOKEN_MAX + 1], text_room[BH_TOKEN_MAX + 1];
    struct bh_buf json, text;
    uint8_t tag[BH_MAC_BYTES];
    bh_buf_init(&json, json_room, sizeof(json_room));
    bh_buf_init(&text, text_room, sizeof(text_room));
    put_header(&json, kid);
    put_base64(&text, &json);
    bh_buf_putc(&text, '.');
    bh_buf_reset(&json);
    put_payload(&json, token);
    put_base64(&text, &json);
    BH_TRY(bh_mac_run(mac, bh_buf_str(&text), tag, err));
    bh_buf_putc(&text, '.');
    bh_buf_base64url(&text, tag, sizeof(tag));
    if (bh_buf_ok(&json) && bh_buf_ok(&text))
        bh_buf_str_add(out, bh_buf_str(&text));
    if (!bh_buf_ok(&json) || !bh_buf_ok(&text) || !bh_buf_ok(out))
        return bh_fail(err, BH_E_TOO_LARGE, "the tenant token does not fit");
    return BH_OK;
}

/* What is left to read.  Once something was not as expected, nothing is. */
struct reader {
    struct bh_str rest;
    bool failed;
};

static void
expect(struct reader *reader, const char *text)
{
    size_t len = strlen(text);
    if (reader->failed || !bh_str_starts(reader->rest, text)) {
        reader->failed = true;
        return;
    }
    reader->rest.data += len;
    reader->rest.len -= len;
}

/* Takes what stands before the next quote. */
static struct bh_str
take_text(struct reader *reader)
{
    struct bh_str text = {reader->rest.data, 0}, tail;
    if (reader->failed || !bh_str_cut(reader->rest, '"', &text, &tail)) {
        reader->failed = true;
        return (struct bh_str){"", 0};
    }
    reader->rest.data += text.len;
    reader->rest.len -= text.len;
    return text;
}

static uint64_t
take_number(struct reader *reader, uint64_t max)
{
    struct bh_str digits = {reader->rest.data, 0};
    while (digits.len < reader->rest.len && digits.data[digits.len] >= '0' &&
           digits.data[digits.len] <= '9')
        digits.len++;
    uint64_t value = 0;
    if (reader->failed || !bh_str_uint(digits, max, &value)) {
        reader->failed = true;
        return 0;
    }
    reader->rest.data += digits.len;
    reader->rest.len -= digits.len;
    return value;
}

static bool
read_header(struct bh_str json, struct bh_str *ret_kid)
{
    struct reader reader = {json, false};
    expect(&reader, "{\"alg\":\"HS256\",\"kid\":\"");
    *ret_kid = take_text(&reader);
    expect(&reader, "\",\"typ\":\"bh-tenant+jwt\"}");
    return !reader.failed && reader.rest.len == 0;
}

static enum bh_token_use
take_use(struct reader *reader)
{
    struct bh_str use = take_text(reader);
    if (bh_str_is(use, "job"))
        return BH_TOKEN_JOB;
    if (!bh_str_is(use, "req"))
        reader->failed = true;
    return BH_TOKEN_REQUEST;
}

static bool
read_payload(struct bh_str json, struct bh_token *ret_token)
{
    struct reader reader = {json, false};
    expect(&reader, "{\"aud\":\"");
    struct bh_str audience = take_text(&reader);
    expect(&reader, "\",\"exp\":");
    ret_token->exp_s = (int64_t)take_number(&reader, INT64_MAX);
    expect(&reader, ",\"iat\":");
    ret_token->iat_s = (int64_t)take_number(&reader, INT64_MAX);
    expect(&reader, ",\"no\":");
    ret_token->no = (int32_t)take_number(&reader, INT32_MAX);
    expect(&reader, ",\"scope\":\"");
    ret_token->scope = take_text(&reader);
    expect(&reader, "\",\"sub\":\"");
    ret_token->sub = take_text(&reader);
    expect(&reader, "\",\"tenant\":\"");
    ret_token->tenant = take_text(&reader);
    expect(&reader, "\",\"use\":\"");
    ret_token->use = take_use(&reader);
    expect(&reader, "\",\"ver\":");
    ret_token->epoch = (uint32_t)take_number(&reader, UINT32_MAX);
    expect(&reader, "}");
    return !reader.failed && reader.rest.len == 0 &&
           bh_str_cut(audience, '/', &ret_token->server, &ret_token->database);
}

/* Decodes ${text} behind what ${parts} stores already. */
static bool
decode(struct bh_token_parts *parts, size_t *used, struct bh_str text, struct bh_str *ret_json)
{
    char *out = parts->storage + *used;
    size_t len;
    if (!bh_base64url_decode(text, (uint8_t *)out, sizeof(parts->storage) - *used, &len))
        return false;
    *used += len;
    *ret_json = (struct bh_str){out, len};
    return true;
}

/* Which part of ${text} is wrong, or NULL. */
static const char *
take_apart(struct bh_str text, struct bh_token_parts *parts)
{
    struct bh_str header, payload, mac, json;
    size_t used = 0, mac_len;
    if (text.len > BH_TOKEN_MAX)
        return "length";
    if (!bh_str_cut(text, '.', &header, &payload) || !bh_str_cut(payload, '.', &payload, &mac))
        return "form";
    parts->signed_part = (struct bh_str){text.data, header.len + 1 + payload.len};
    if (!decode(parts, &used, header, &json) || !read_header(json, &parts->kid))
        return "header";
    if (!decode(parts, &used, payload, &json) || !read_payload(json, &parts->claims))
        return "payload";
    if (!bh_base64url_decode(mac, parts->mac, sizeof(parts->mac), &mac_len) ||
        mac_len != sizeof(parts->mac))
        return "signature";
    return bad_member(parts->kid, &parts->claims);
}

enum bh_code
bh_token_parse(struct bh_str text, struct bh_token_parts *ret_parts, struct bh_error *err)
{
    struct bh_str none = {"", 0};
    ret_parts->kid = none;
    ret_parts->signed_part = none;
    memset(ret_parts->mac, 0, sizeof(ret_parts->mac));
    ret_parts->claims = (struct bh_token){
        .server = none, .database = none, .scope = none, .sub = none, .tenant = none};
    const char *bad = take_apart(text, ret_parts);
    if (bad != NULL)
        return bh_fail(err, BH_E_TOKEN_INVALID, "not a tenant token: its %s is wrong", bad);
    return BH_OK;
}

/* Why a token with these times is not good for anything, or NULL; its end is checked apart. */
static const char *
time_problem(const struct bh_token *claims, int64_t now_s)
{
    int64_t life_max_s =
        claims->use == BH_TOKEN_JOB ? BH_TOKEN_JOB_LIFE_S : BH_TOKEN_REQUEST_LIFE_S;
    int64_t life_s = claims->exp_s - claims->iat_s;
    if (claims->iat_s > now_s + BH_TOKEN_LEEWAY_S)
        return "the tenant token is issued in the future";
    if (life_s <= 0 || life_s > life_max_s)
        return "the tenant token lives longer than allowed, or not at all";
    return NULL;
}

enum bh_code
bh_token_check_claims(const struct bh_token *claims, struct bh_str server, struct bh_str database,
    int64_t now_s, struct bh_error *err)
{
    if (!bh_str_eq(claims->server, server) || !bh_str_eq(claims->database, database))
        return bh_fail(err, BH_E_TOKEN_INVALID, "the tenant token is for another database");
    const char *problem = time_problem(claims, now_s);
    if (problem != NULL)
        return bh_fail(err, BH_E_TOKEN_INVALID, "%s", problem);
    if (claims->exp_s <= now_s - BH_TOKEN_LEEWAY_S)
        return bh_fail(err, BH_E_TOKEN_EXPIRED, "the tenant token has expired");
    return BH_OK;
}

enum bh_code
bh_token_check(const struct bh_token_parts *parts, struct bh_mac *mac, struct bh_str server,
    struct bh_str database, int64_t now_s, struct bh_error *err)
{
    uint8_t right[BH_MAC_BYTES];
    BH_TRY(bh_mac_run(mac, parts->signed_part, right, err));
    bool same = bh_equal_ct(right, parts->mac, sizeof(right));
    bh_wipe(right, sizeof(right));
    if (!same)
        return bh_fail(err, BH_E_TOKEN_INVALID, "the signature of the tenant token is wrong");
    return bh_token_check_claims(&parts->claims, server, database, now_s, err);
}
