#include "core/jwt.h"

#include "core/codec.h"

#define PATH_DEPTH 8

static enum bh_code
invalid(struct bh_error *err, const char *what)
{
    return bh_fail(err, BH_E_TOKEN_INVALID, "not a token of an issuer: %s", what);
}

static enum bh_code
read_part(
    struct bh_str text, struct bh_arena *arena, struct bh_json **ret_json, struct bh_error *err)
{
    uint8_t *data = bh_arena_alloc(arena, text.len + 1);
    size_t len;
    if (data == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for a token");
    if (!bh_base64url_decode(text, data, text.len + 1, &len))
        return invalid(err, "a part is not base64url");
    struct bh_str json = {(const char *)data, len};
    enum bh_code code = bh_json_parse(json, BH_JSON_DEPTH, arena, ret_json, err);
    if (code == BH_E_BAD_REQUEST || (code == BH_OK && (*ret_json)->kind != BH_JSON_OBJECT))
        return invalid(err, "a part is no JSON object");
    return code;
}

static bool
typ_allowed(const struct bh_json *header)
{
    struct bh_str typ;
    return bh_json_get(header, "typ") == NULL ||
           (bh_json_string(header, "typ", &typ) &&
               (bh_str_is(typ, "JWT") || bh_str_is(typ, "jwt") || bh_str_is(typ, "at+jwt") ||
                   bh_str_is(typ, "application/at+jwt")));
}

static enum bh_code
read_header(const struct bh_json *header, struct bh_jwt *jwt, struct bh_error *err)
{
    /* Keys come from the issuer's set, and what we do not understand we do not accept. */
    static const char *const refused[] = {"crit", "jwk", "jku", "x5c", "x5u", "zip", "b64"};
    struct bh_str alg;
    if (!bh_json_string(header, "alg", &alg) || !bh_jwk_alg_find(alg, &jwt->alg))
        return invalid(err, "its alg is not RS256, ES256 or EdDSA");
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        if (bh_json_get(header, refused[i]) != NULL)
            return invalid(err, "its header names a key or an extension");
    }
    if (!typ_allowed(header))
        return invalid(err, "its typ is not JWT");
    jwt->kid = BH_STR("");
    if (bh_json_get(header, "kid") != NULL &&
        (!bh_json_string(header, "kid", &jwt->kid) || jwt->kid.len == 0))
        return invalid(err, "its kid is no string");
    return BH_OK;
}

/* RFC 7519 allows fractions of a second; no issuer that we know makes them, and they invite
 * trouble. */
static bool
time_of(const struct bh_json *claims, const char *name, bool needed, int64_t *ret_time_s)
{
    const struct bh_json *member = bh_json_get(claims, name);
    *ret_time_s = 0;
    if (member == NULL)
        return !needed;
    return bh_json_int(member, ret_time_s) && *ret_time_s >= 0;
}

static enum bh_code
read_claims(const struct bh_json *claims, struct bh_jwt *jwt, struct bh_error *err)
{
    jwt->claims = claims;
    jwt->sub = BH_STR("");
    if (!bh_json_string(claims, "iss", &jwt->issuer))
        return invalid(err, "its iss is no string");
    if (bh_json_get(claims, "sub") != NULL && !bh_json_string(claims, "sub", &jwt->sub))
        return invalid(err, "its sub is no string");
    if (!time_of(claims, "exp", true, &jwt->exp_s))
        return invalid(err, "its exp is no integer");
    if (!time_of(claims, "nbf", false, &jwt->nbf_s) || !time_of(claims, "iat", false, &jwt->iat_s))
        return invalid(err, "its nbf or iat is no integer");
    return BH_OK;
}

enum bh_code
bh_jwt_parse(
    struct bh_str text, struct bh_arena *arena, struct bh_jwt *ret_jwt, struct bh_error *err)
{
    struct bh_str header_text, payload_text, signature_text;
    struct bh_json *header, *payload;
    struct bh_jwt jwt = {.alg = BH_JWK_RS256};
    if (text.len > BH_JWT_MAX)
        return invalid(err, "it is too long");
    if (!bh_str_cut(text, '.', &header_text, &payload_text) ||
        !bh_str_cut(payload_text, '.', &payload_text, &signature_text))
        return invalid(err, "it has not three parts");
    uint8_t *signature = bh_arena_alloc(arena, BH_JWT_SIGNATURE_MAX);
    if (signature == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for a token");
    if (!bh_base64url_decode(signature_text, signature, BH_JWT_SIGNATURE_MAX, &jwt.signature_len) ||
        jwt.signature_len == 0)
        return invalid(err, "its signature is not base64url");
    jwt.signature = signature;
    jwt.signed_part = (struct bh_str){text.data, header_text.len + 1 + payload_text.len};
    BH_TRY(read_part(header_text, arena, &header, err));
    BH_TRY(read_header(header, &jwt, err));
    BH_TRY(read_part(payload_text, arena, &payload, err));
    BH_TRY(read_claims(payload, &jwt, err));
    *ret_jwt = jwt;
    return BH_OK;
}

bool
bh_jwt_is_for(const struct bh_jwt *jwt, struct bh_str audience)
{
    const struct bh_json *aud = bh_json_get(jwt->claims, "aud");
    if (aud == NULL || audience.len == 0)
        return false;
    if (aud->kind == BH_JSON_STRING)
        return bh_str_eq(aud->text, audience);
    bool found = false;
    for (const struct bh_json *one = aud->first; one != NULL; one = one->next) {
        if (aud->kind != BH_JSON_ARRAY || one->kind != BH_JSON_STRING)
            return false;
        found = found || bh_str_eq(one->text, audience);
    }
    return found;
}

enum bh_code
bh_jwt_check(const struct bh_jwt *jwt, const struct bh_jwks *jwks, const struct bh_jwt_door *door,
    struct bh_error *err)
{
    const struct bh_jwk *key = bh_jwks_find(jwks, jwt->kid, jwt->alg);
    if (key == NULL)
        return invalid(err, "the issuer has no key of its kid and alg");
    if (!bh_jwk_verify(key, jwt->signed_part, jwt->signature, jwt->signature_len))
        return invalid(err, "its signature is wrong");
    if (!bh_str_eq(jwt->issuer, door->issuer))
        return invalid(err, "it is of another issuer");
    if (!bh_jwt_is_for(jwt, door->audience))
        return invalid(err, "it is for another audience");
    if (jwt->nbf_s > door->now_s + door->leeway_s || jwt->iat_s > door->now_s + door->leeway_s)
        return invalid(err, "it is not valid yet");
    if (jwt->exp_s <= door->now_s - door->leeway_s)
        return bh_fail(err, BH_E_TOKEN_EXPIRED, "the token has expired");
    return BH_OK;
}

const struct bh_json *
bh_jwt_claim(const struct bh_jwt *jwt, struct bh_str path)
{
    const struct bh_json *found = bh_json_member(jwt->claims, path);
    const struct bh_json *at = jwt->claims;
    struct bh_str name, rest;
    if (found != NULL)
        return found;
    for (int depth = 0; at != NULL && depth < PATH_DEPTH; depth++) {
        if (!bh_str_cut(path, '.', &name, &rest))
            return bh_json_member(at, path);
        at = bh_json_member(at, name);
        path = rest;
    }
    return NULL;
}
