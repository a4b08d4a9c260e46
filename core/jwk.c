#include "core/jwk.h"

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <stdlib.h>

#include "core/arena.h"
#include "core/codec.h"
#include "core/json.h"

#define RSA_BYTES_MIN 256
#define RSA_BYTES_MAX 1024
#define EXPONENT_BYTES_MAX 8
#define P256_BYTES 32
#define ED25519_BYTES 32
#define POINT_BYTES (1 + 2 * P256_BYTES)

struct bh_jwk {
    enum bh_jwk_alg alg;
    char kid[BH_JWK_KID_MAX + 1]; /* empty: it has none */
    EVP_PKEY *key;
};

struct bh_jwks {
    size_t count;
    struct bh_jwk keys[];
};

static const char *const alg_names[BH_JWK_ALG_COUNT] = {
    [BH_JWK_RS256] = "RS256", [BH_JWK_ES256] = "ES256", [BH_JWK_EDDSA] = "EdDSA"};

const char *
bh_jwk_alg_name(enum bh_jwk_alg alg)
{
    return alg_names[alg];
}

bool
bh_jwk_alg_find(struct bh_str name, enum bh_jwk_alg *ret_alg)
{
    for (int i = 0; i < BH_JWK_ALG_COUNT; i++) {
        if (bh_str_is(name, alg_names[i])) {
            *ret_alg = (enum bh_jwk_alg)i;
            return true;
        }
    }
    return false;
}

/* ---- one key ---- */

/* The member as a string; empty where there is none.  Members that must be there are checked by
 * what is made of them. */
static struct bh_str
text_of(const struct bh_json *object, const char *name)
{
    struct bh_str text = BH_STR("");
    (void)bh_json_string(object, name, &text);
    return text;
}

static bool
bytes_of(
    const struct bh_json *object, const char *name, uint8_t *ret_data, size_t size, size_t *ret_len)
{
    struct bh_str text = text_of(object, name);
    return text.len > 0 && bh_base64url_decode(text, ret_data, size, ret_len) && *ret_len > 0;
}

static EVP_PKEY *
from_params(const char *type, OSSL_PARAM_BLD *params)
{
    EVP_PKEY *key = NULL;
    OSSL_PARAM *built = OSSL_PARAM_BLD_to_param(params);
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    if (built == NULL || ctx == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
        EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, built) != 1)
        key = NULL;
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(built);
    return key;
}

static const char *
read_rsa(const struct bh_json *object, EVP_PKEY **ret_key)
{
    uint8_t n[RSA_BYTES_MAX], e[EXPONENT_BYTES_MAX];
    size_t n_len, e_len;
    if (!bytes_of(object, "n", n, sizeof(n), &n_len) || n_len < RSA_BYTES_MIN || n[0] == 0 ||
        (n[n_len - 1] & 1) == 0)
        return "its modulus is not an odd number of 2048 to 8192 bits";
    if (!bytes_of(object, "e", e, sizeof(e), &e_len) || e[0] == 0 || (e[e_len - 1] & 1) == 0 ||
        (e_len == 1 && e[0] < 3))
        return "its exponent is not an odd number above 2";
    OSSL_PARAM_BLD *params = OSSL_PARAM_BLD_new();
    BIGNUM *n_number = BN_bin2bn(n, (int)n_len, NULL);
    BIGNUM *e_number = BN_bin2bn(e, (int)e_len, NULL);
    if (params != NULL && n_number != NULL && e_number != NULL &&
        OSSL_PARAM_BLD_push_BN(params, OSSL_PKEY_PARAM_RSA_N, n_number) == 1 &&
        OSSL_PARAM_BLD_push_BN(params, OSSL_PKEY_PARAM_RSA_E, e_number) == 1)
        *ret_key = from_params("RSA", params);
    OSSL_PARAM_BLD_free(params);
    BN_free(n_number);
    BN_free(e_number);
    return *ret_key == NULL ? "OpenSSL does not take it" : NULL;
}

static bool
on_curve(EVP_PKEY *key)
{
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    bool ok = ctx != NULL && EVP_PKEY_public_check(ctx) == 1;
    EVP_PKEY_CTX_free(ctx);
    return ok;
}

static const char *
read_ec(const struct bh_json *object, EVP_PKEY **ret_key)
{
    uint8_t point[POINT_BYTES] = {4}; /* uncompressed: X9.62 section 4.3.6 */
    size_t x_len, y_len;
    if (!bytes_of(object, "x", point + 1, P256_BYTES, &x_len) || x_len != P256_BYTES ||
        !bytes_of(object, "y", point + 1 + P256_BYTES, P256_BYTES, &y_len) || y_len != P256_BYTES)
        return "its coordinates are not 32 bytes each";
    OSSL_PARAM_BLD *params = OSSL_PARAM_BLD_new();
    if (params != NULL &&
        OSSL_PARAM_BLD_push_utf8_string(params, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) == 1 &&
        OSSL_PARAM_BLD_push_octet_string(params, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)) ==
            1)
        *ret_key = from_params("EC", params);
    OSSL_PARAM_BLD_free(params);
    return *ret_key == NULL || !on_curve(*ret_key) ? "it is no point of P-256" : NULL;
}

static const char *
read_okp(const struct bh_json *object, EVP_PKEY **ret_key)
{
    uint8_t x[ED25519_BYTES];
    size_t len;
    if (!bytes_of(object, "x", x, sizeof(x), &len) || len != sizeof(x))
        return "its x is not 32 bytes";
    *ret_key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x, sizeof(x));
    return *ret_key == NULL ? "OpenSSL does not take it" : NULL;
}

static const struct kind {
    const char *kty;
    const char *crv; /* "": the type has no curves */
    enum bh_jwk_alg alg;
    const char *(*read)(const struct bh_json *object, EVP_PKEY **ret_key);
} kinds[] = {
    {"RSA", "", BH_JWK_RS256, read_rsa},
    {"EC", "P-256", BH_JWK_ES256, read_ec},
    {"OKP", "Ed25519", BH_JWK_EDDSA, read_okp},
};

static const struct kind *
kind_of(const struct bh_json *object)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (bh_str_is(text_of(object, "kty"), kinds[i].kty) &&
            (kinds[i].crv[0] == '\0' || bh_str_is(text_of(object, "crv"), kinds[i].crv)))
            return &kinds[i];
    }
    return NULL;
}

static bool
allows_verify(const struct bh_json *ops)
{
    if (ops->kind != BH_JSON_ARRAY)
        return false;
    for (const struct bh_json *op = ops->first; op != NULL; op = op->next) {
        if (op->kind == BH_JSON_STRING && bh_str_is(op->text, "verify"))
            return true;
    }
    return false;
}

/* Is the key one for our signatures?  Others may stand beside it. */
static bool
is_ours(const struct bh_json *object, const struct kind *kind)
{
    const struct bh_json *use = bh_json_get(object, "use");
    const struct bh_json *alg = bh_json_get(object, "alg");
    const struct bh_json *ops = bh_json_get(object, "key_ops");
    return kind != NULL && (use == NULL || bh_str_is(text_of(object, "use"), "sig")) &&
           (alg == NULL || bh_str_is(text_of(object, "alg"), alg_names[kind->alg])) &&
           (ops == NULL || allows_verify(ops));
}

/* Secret parts have no place in a public set: whoever published them has to hear of it. */
static bool
is_secret(const struct bh_json *object)
{
    static const char *const members[] = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"};
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        if (bh_json_get(object, members[i]) != NULL)
            return true;
    }
    return bh_str_is(text_of(object, "kty"), "oct");
}

static const char *
read_kid(const struct bh_json *object, struct bh_jwk *key)
{
    const struct bh_json *kid = bh_json_get(object, "kid");
    if (kid == NULL)
        return NULL;
    if (kid->kind != BH_JSON_STRING || kid->text.len == 0 || kid->text.len > BH_JWK_KID_MAX ||
        memchr(kid->text.data, '\0', kid->text.len) != NULL)
        return "its kid is not a string of 1 to 255 bytes";
    memcpy(key->kid, kid->text.data, kid->text.len);
    return NULL;
}

/* ---- the set ---- */

static bool
is_taken(const struct bh_jwks *jwks, const char *kid)
{
    for (size_t i = 0; i < jwks->count; i++) {
        if (kid[0] != '\0' && strcmp(jwks->keys[i].kid, kid) == 0)
            return true;
    }
    return false;
}

static const char *
add_key(struct bh_jwks *jwks, const struct bh_json *object)
{
    if (object->kind != BH_JSON_OBJECT)
        return "it is no object";
    if (is_secret(object))
        return "it holds a secret; publish the public part only";
    const struct kind *kind = kind_of(object);
    if (!is_ours(object, kind))
        return NULL;
    struct bh_jwk *key = &jwks->keys[jwks->count];
    key->alg = kind->alg;
    const char *problem = read_kid(object, key);
    if (problem == NULL && is_taken(jwks, key->kid))
        problem = "another key has its kid";
    if (problem == NULL)
        problem = kind->read(object, &key->key);
    if (problem == NULL)
        jwks->count++;
    else
        EVP_PKEY_free(key->key);
    return problem;
}

static enum bh_code
add_keys(struct bh_jwks *jwks, const struct bh_json *keys, struct bh_error *err)
{
    size_t place = 0;
    for (const struct bh_json *key = keys->first; key != NULL; key = key->next, place++) {
        if (place == BH_JWKS_KEYS)
            return bh_fail(err, BH_E_INVALID, "the key set has more than %d keys", BH_JWKS_KEYS);
        const char *problem = add_key(jwks, key);
        if (problem != NULL)
            return bh_fail(err, BH_E_INVALID, "key %zu of the set: %s", place + 1, problem);
    }
    if (jwks->count == 0)
        return bh_fail(err, BH_E_INVALID, "the key set has no key for RS256, ES256 or EdDSA");
    return BH_OK;
}

enum bh_code
bh_jwks_read(const struct bh_json *set, struct bh_jwks **ret_jwks, struct bh_error *err)
{
    const struct bh_json *keys = bh_json_get(set, "keys");
    if (keys == NULL || keys->kind != BH_JSON_ARRAY)
        return bh_fail(err, BH_E_INVALID, "the key set has no array \"keys\"");
    struct bh_jwks *jwks = calloc(1, sizeof(*jwks) + BH_JWKS_KEYS * sizeof(jwks->keys[0]));
    if (jwks == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for a key set");
    enum bh_code code = add_keys(jwks, keys, err);
    if (code != BH_OK) {
        bh_jwks_free(jwks);
        return code;
    }
    *ret_jwks = jwks;
    return BH_OK;
}

enum bh_code
bh_jwks_parse(struct bh_str text, struct bh_jwks **ret_jwks, struct bh_error *err)
{
    struct bh_chunks chunks;
    struct bh_json *root;
    if (text.len > BH_JWKS_BYTES)
        return bh_fail(err, BH_E_INVALID, "the key set is longer than %d bytes", BH_JWKS_BYTES);
    bh_chunks_init(&chunks);
    enum bh_code code = bh_json_parse(text, BH_JSON_DEPTH, &chunks.arena, &root, err);
    if (code == BH_OK)
        code = bh_jwks_read(root, ret_jwks, err);
    else if (code == BH_E_BAD_REQUEST)
        code = bh_fail(err, BH_E_INVALID, "the key set is no strict JSON");
    bh_chunks_fini(&chunks);
    return code;
}

void
bh_jwks_free(struct bh_jwks *jwks)
{
    for (size_t i = 0; jwks != NULL && i < jwks->count; i++)
        EVP_PKEY_free(jwks->keys[i].key);
    free(jwks);
}

size_t
bh_jwks_count(const struct bh_jwks *jwks)
{
    return jwks->count;
}

const struct bh_jwk *
bh_jwks_find(const struct bh_jwks *jwks, struct bh_str kid, enum bh_jwk_alg alg)
{
    const struct bh_jwk *found = NULL;
    for (size_t i = 0; i < jwks->count; i++) {
        const struct bh_jwk *key = &jwks->keys[i];
        if (key->alg != alg || (kid.len > 0 && !bh_str_is(kid, key->kid)))
            continue;
        if (found != NULL)
            return NULL;
        found = key;
    }
    return found;
}

/* ---- signatures ---- */

/* JWS states r and s as they are (RFC 7518 section 3.4), OpenSSL wants them in DER. */
static size_t
to_der(const uint8_t *signature, uint8_t ret_der[80])
{
    ECDSA_SIG *pair = ECDSA_SIG_new();
    BIGNUM *r = BN_bin2bn(signature, P256_BYTES, NULL);
    BIGNUM *s = BN_bin2bn(signature + P256_BYTES, P256_BYTES, NULL);
    int len = -1;
    if (pair != NULL && r != NULL && s != NULL && ECDSA_SIG_set0(pair, r, s) == 1) {
        r = s = NULL;
        if (i2d_ECDSA_SIG(pair, NULL) <= 80)
            len = i2d_ECDSA_SIG(pair, &ret_der);
    }
    BN_free(r);
    BN_free(s);
    ECDSA_SIG_free(pair);
    return len < 0 ? 0 : (size_t)len;
}

bool
bh_jwk_verify(const struct bh_jwk *jwk, struct bh_str message, const uint8_t *signature, size_t len)
{
    uint8_t der[80];
    if (jwk->alg == BH_JWK_ES256) {
        if (len != (size_t)2 * P256_BYTES)
            return false;
        len = to_der(signature, der);
        signature = der;
    }
    if (len == 0 || (jwk->alg == BH_JWK_RS256 && len != (size_t)EVP_PKEY_get_size(jwk->key)))
        return false;
    const EVP_MD *digest = jwk->alg == BH_JWK_EDDSA ? NULL : EVP_sha256();
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, digest, NULL, jwk->key) == 1 &&
              EVP_DigestVerify(
                  ctx, signature, len, (const unsigned char *)message.data, message.len) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}
