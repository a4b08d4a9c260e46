#include "core/jwt.h"

#include <openssl/evp.h>

#include "core/buf.h"
#include "core/codec.h"
#include "tests/unit/core/eddsa.h"
#include "tests/unit/core/test.h"

/* RFC 8037 appendix A.1 and A.2 */
#define SET                                                                                        \
    "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"k1\",\"x\":"                        \
    "\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}"
#define NOW 1700000000
#define HEADER "{\"alg\":\"EdDSA\",\"typ\":\"JWT\",\"kid\":\"k1\"}"
#define CLAIMS(more)                                                                               \
    "{\"iss\":\"https://id.example\",\"aud\":\"shop\",\"sub\":\"u1\",\"exp\":1700000060" more "}"

/* A rightly signed token of these two texts. */
static struct bh_str
token(const char *header, const char *payload)
{
    static char text[16384];
    struct bh_buf buf;
    bh_buf_init(&buf, text, sizeof(text));
    put_eddsa_token(&buf, header, payload);
    assert_true(bh_buf_ok(&buf));
    return bh_buf_str(&buf);
}

static enum bh_code
check_at(struct bh_str text, const char *set, struct bh_jwt_door door, char *ret_detail)
{
    struct bh_chunks chunks;
    struct bh_jwks *jwks;
    struct bh_jwt jwt;
    struct bh_error err = {.code = BH_OK};
    char *copy = exact_copy(text.data, text.len);
    bh_chunks_init(&chunks);
    assert_int_equal(bh_jwks_parse(bh_str_of(set), &jwks, &err), BH_OK);
    enum bh_code code = bh_jwt_parse((struct bh_str){copy, text.len}, &chunks.arena, &jwt, &err);
    if (code == BH_OK)
        code = bh_jwt_check(&jwt, jwks, &door, &err);
    snprintf(ret_detail, BH_DETAIL_MAX, "%s", err.detail);
    bh_jwks_free(jwks);
    bh_chunks_fini(&chunks);
    free(copy);
    return code;
}

static void
check(struct bh_str text, enum bh_code wanted, const char *why)
{
    char detail[BH_DETAIL_MAX];
    struct bh_jwt_door door = {
        BH_STR("https://id.example"), BH_STR("shop"), .leeway_s = 5, .now_s = NOW};
    enum bh_code code = check_at(text, SET, door, detail);
    if (code != wanted || strstr(detail, why) == NULL)
        fail_msg("%.*s: \"%s\", not \"%s\"", (int)text.len, text.data, detail, why);
}

static void
refused(const char *header, const char *payload, const char *why)
{
    check(token(header, payload), BH_E_TOKEN_INVALID, why);
}

static void
a_token_of_the_issuer_is_accepted(void **state)
{
    (void)state;
    check(token(HEADER, CLAIMS("")), BH_OK, "");
    check(token("{\"alg\":\"EdDSA\"}", CLAIMS("")), BH_OK, "");
    check(token("{\"alg\":\"EdDSA\",\"typ\":\"at+jwt\",\"kid\":\"k1\"}", CLAIMS("")), BH_OK, "");
    check(token(HEADER,
              "{\"iss\":\"https://id.example\",\"aud\":[\"x\",\"shop\"],\"exp\":1700000060}"),
        BH_OK, "");
    check(token(HEADER, CLAIMS(",\"nbf\":1700000005,\"iat\":1700000005")), BH_OK, "");
}

static void
a_header_never_chooses(void **state)
{
    (void)state;
    static const char *const algs[] = {
        "none", "None", "nOnE", "HS256", "RS512", "PS256", "ES384", "", "eddsa"};
    for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
        char header[64];
        snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"kid\":\"k1\"}", algs[i]);
        refused(header, CLAIMS(""), "alg");
    }
    refused("{\"alg\":\"ES256\",\"kid\":\"k1\"}", CLAIMS(""), "no key of its kid and alg");
    refused("{\"alg\":\"RS256\"}", CLAIMS(""), "no key of its kid and alg");
    refused("{\"alg\":[\"EdDSA\"]}", CLAIMS(""), "alg");
    refused("{\"typ\":\"JWT\"}", CLAIMS(""), "alg");
    refused("{\"alg\":\"EdDSA\",\"kid\":\"../../dev/null\"}", CLAIMS(""), "no key of its kid");
    refused("{\"alg\":\"EdDSA\",\"kid\":\"k1' OR '1'='1\"}", CLAIMS(""), "no key of its kid");
    refused("{\"alg\":\"EdDSA\",\"kid\":7}", CLAIMS(""), "kid");
    refused("{\"alg\":\"EdDSA\",\"kid\":\"\"}", CLAIMS(""), "kid");
    refused("{\"alg\":\"EdDSA\",\"alg\":\"EdDSA\"}", CLAIMS(""), "no JSON object");
    refused("{\"alg\":\"EdDSA\",\"typ\":\"bh-user+jwt\"}", CLAIMS(""), "typ");
    refused("{\"alg\":\"EdDSA\",\"typ\":\"dpop+jwt\"}", CLAIMS(""), "typ");
    refused("[]", CLAIMS(""), "no JSON object");
    static const char *const members[] = {"crit", "jwk", "jku", "x5c", "x5u", "zip", "b64"};
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        char header[96];
        snprintf(header, sizeof(header),
            "{\"alg\":\"EdDSA\",\"kid\":\"k1\",\"%s\":\"https://evil\"}", members[i]);
        refused(header, CLAIMS(""), "names a key or an extension");
    }
}

static void
a_claim_that_is_wrong_refuses_the_token(void **state)
{
    (void)state;
    refused(
        HEADER, "{\"iss\":\"https://evil\",\"aud\":\"shop\",\"exp\":1700000060}", "another issuer");
    refused(HEADER, "{\"iss\":\"https://id.example/\",\"aud\":\"shop\",\"exp\":1700000060}",
        "another issuer");
    refused(HEADER, "{\"iss\":\"https://id.example\",\"aud\":\"shop2\",\"exp\":1700000060}",
        "another audience");
    refused(HEADER, "{\"iss\":\"https://id.example\",\"exp\":1700000060}", "another audience");
    refused(HEADER, "{\"iss\":\"https://id.example\",\"aud\":[],\"exp\":1700000060}",
        "another audience");
    refused(HEADER, "{\"iss\":\"https://id.example\",\"aud\":[\"shop\",1],\"exp\":1700000060}",
        "another audience");
    refused(HEADER, "{\"iss\":\"https://id.example\",\"aud\":{\"a\":\"shop\"},\"exp\":1700000060}",
        "another audience");
    refused(
        HEADER, "{\"iss\":[\"https://id.example\"],\"aud\":\"shop\",\"exp\":1700000060}", "iss");
    refused(HEADER, "{\"iss\":\"https://id.example\",\"aud\":\"shop\"}", "exp");
    refused(
        HEADER, "{\"iss\":\"https://id.example\",\"aud\":\"shop\",\"exp\":\"1700000060\"}", "exp");
    refused(HEADER, "{\"iss\":\"https://id.example\",\"aud\":\"shop\",\"exp\":1e308}", "exp");
    refused(HEADER, "{\"iss\":\"https://id.example\",\"aud\":\"shop\",\"exp\":-1}", "exp");
    refused(HEADER, CLAIMS(",\"nbf\":1700000006"), "not valid yet");
    refused(HEADER, CLAIMS(",\"iat\":1700000006"), "not valid yet");
    refused(HEADER, CLAIMS(",\"nbf\":null"), "nbf");
    refused(HEADER, CLAIMS(",\"sub\":\"u2\""), "no JSON object");
    refused(HEADER,
        "{\"iss\":\"https://id.example\",\"aud\":\"shop\",\"exp\":1700000060,\"sub\":7}", "sub");
    refused(HEADER, "{}", "iss");
    check(token(HEADER, "{\"iss\":\"https://id.example\",\"aud\":\"shop\",\"exp\":1699999995}"),
        BH_E_TOKEN_EXPIRED, "expired");
    check(token(HEADER, "{\"iss\":\"https://id.example\",\"aud\":\"shop\",\"exp\":1699999996}"),
        BH_OK, "");
}

static void
what_is_no_canonical_token_is_refused(void **state)
{
    (void)state;
    char text[16384];
    struct bh_str good = token(HEADER, CLAIMS(""));
    memcpy(text, good.data, good.len);
    check((struct bh_str){text, good.len}, BH_OK, "");
    for (size_t i = 0; i < good.len; i++) { /* every changed byte, every shorter text */
        char detail[BH_DETAIL_MAX];
        struct bh_jwt_door door = {
            BH_STR("https://id.example"), BH_STR("shop"), .leeway_s = 5, .now_s = NOW};
        text[i] = text[i] == 'A' ? 'B' : 'A';
        assert_int_equal(
            check_at((struct bh_str){text, good.len}, SET, door, detail), BH_E_TOKEN_INVALID);
        text[i] = good.data[i];
        assert_int_equal(check_at((struct bh_str){text, i}, SET, door, detail), BH_E_TOKEN_INVALID);
    }
    static const char *const tails[] = {"=", ".", ".AAAA", "A", " ", "\n", "%3D"};
    for (size_t i = 0; i < sizeof(tails) / sizeof(tails[0]); i++) {
        memcpy(text + good.len, tails[i], strlen(tails[i]));
        check((struct bh_str){text, good.len + strlen(tails[i])}, BH_E_TOKEN_INVALID, "");
    }
    memset(text, 'A', sizeof(text));
    check((struct bh_str){text, BH_JWT_MAX + 1}, BH_E_TOKEN_INVALID, "too long");
}

/* RFC 7515 appendix A.3, signed by somebody else's program. */
static void
the_example_of_the_rfc_is_accepted(void **state)
{
    (void)state;
    static const char text[] =
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNv"
        "bS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfK"
        "TUJqPP3-Kg6NU1Q";
    static const char set[] = "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\","
                              "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
                              "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}";
    char detail[BH_DETAIL_MAX];
    struct bh_jwt_door door = {BH_STR("joe"), BH_STR("shop"), .leeway_s = 5, .now_s = 1300819380};
    /* It has no audience: the signature was right, or another reason would stand here. */
    assert_int_equal(check_at(bh_str_of(text), set, door, detail), BH_E_TOKEN_INVALID);
    assert_non_null(strstr(detail, "another audience"));
}

static void
a_claim_is_found_by_name_and_by_path(void **state)
{
    (void)state;
    struct bh_chunks chunks;
    struct bh_jwt jwt;
    bh_chunks_init(&chunks);
    struct bh_str text = token(HEADER,
        CLAIMS(
            ",\"realm_access\":{\"roles\":[\"a\"]},\"https://x.example/org\":\"o\",\"a.b\":1,\"a\":{\"b\":2}"));
    assert_int_equal(bh_jwt_parse(text, &chunks.arena, &jwt, NULL), BH_OK);
    assert_int_equal(bh_jwt_claim(&jwt, BH_STR("realm_access.roles"))->kind, BH_JSON_ARRAY);
    assert_str(bh_jwt_claim(&jwt, BH_STR("https://x.example/org"))->text, "o");
    assert_str(bh_jwt_claim(&jwt, BH_STR("a.b"))->text, "1");
    assert_str(bh_jwt_claim(&jwt, BH_STR("sub"))->text, "u1");
    assert_null(bh_jwt_claim(&jwt, BH_STR("sub.x")));
    assert_null(bh_jwt_claim(&jwt, BH_STR("realm_access.")));
    assert_null(bh_jwt_claim(&jwt, BH_STR("")));
    assert_null(bh_jwt_claim(&jwt, BH_STR(".........")));
    bh_chunks_fini(&chunks);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_token_of_the_issuer_is_accepted),
        cmocka_unit_test(a_header_never_chooses),
        cmocka_unit_test(a_claim_that_is_wrong_refuses_the_token),
        cmocka_unit_test(what_is_no_canonical_token_is_refused),
        cmocka_unit_test(the_example_of_the_rfc_is_accepted),
        cmocka_unit_test(a_claim_is_found_by_name_and_by_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
