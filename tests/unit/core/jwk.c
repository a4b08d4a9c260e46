#include "core/jwk.h"

#include <stdio.h>

#include "core/codec.h"
#include "core/json.h"
#include "tests/unit/core/test.h"

#define FILE_MAX (1 << 20)
#define SIGNATURE_MAX 1024

/* ---- every vector of Wycheproof ---- */

static void
check_vector(const struct bh_jwks *jwks, enum bh_jwk_alg alg, const struct bh_json *test)
{
    uint8_t message[2048], signature[SIGNATURE_MAX];
    struct bh_str msg = bh_json_get(test, "msg")->text, sig = bh_json_get(test, "sig")->text;
    bool valid = bh_json_get(test, "valid")->kind == BH_JSON_TRUE;
    const struct bh_jwk *key = bh_jwks_find(jwks, BH_STR(""), alg);
    assert_non_null(key);
    assert_true(bh_hex_decode(msg, message, msg.len / 2));
    assert_true(bh_hex_decode(sig, signature, sig.len / 2));
    struct bh_str text = {(const char *)message, msg.len / 2};
    if (bh_jwk_verify(key, text, signature, sig.len / 2) != valid)
        fail_msg("%s, test %.*s: not %s", bh_jwk_alg_name(alg),
            (int)bh_json_get(test, "id")->text.len, bh_json_get(test, "id")->text.data,
            valid ? "accepted" : "refused");
}

static void
every_vector_of_wycheproof_is_answered_right(void **state)
{
    (void)state;
    struct bh_chunks chunks;
    struct bh_json *root;
    size_t count[BH_JWK_ALG_COUNT] = {0};
    FILE *file = fopen(BH_GOLDEN "/wycheproof.json", "rb");
    assert_non_null(file);
    bh_chunks_init(&chunks);
    char *text = bh_arena_alloc(&chunks.arena, FILE_MAX);
    size_t len = fread(text, 1, FILE_MAX, file);
    fclose(file);
    assert_int_equal(
        bh_json_parse((struct bh_str){text, len}, 16, &chunks.arena, &root, NULL), BH_OK);
    const struct bh_json *group = bh_json_get(root, "groups")->first;
    for (; group != NULL; group = group->next) {
        enum bh_jwk_alg alg;
        struct bh_jwks *jwks;
        struct bh_error err = {0};
        assert_true(bh_jwk_alg_find(bh_json_get(group, "alg")->text, &alg));
        if (bh_jwks_parse(bh_json_get(group, "jwks")->text, &jwks, &err) != BH_OK)
            fail_msg("%s", err.detail);
        const struct bh_json *test = bh_json_get(group, "tests")->first;
        for (; test != NULL; test = test->next, count[alg]++)
            check_vector(jwks, alg, test);
        bh_jwks_free(jwks);
    }
    bh_chunks_fini(&chunks);
    assert_int_equal(count[BH_JWK_RS256], 258);
    assert_int_equal(count[BH_JWK_ES256], 252);
    assert_int_equal(count[BH_JWK_EDDSA], 150);
}

/* ---- sets ---- */

#define EC_X "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU" /* RFC 7515 appendix A.3 */
#define EC_Y "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"
#define ED "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" /* RFC 8037 appendix A.2 */
#define EC_KEY "\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" EC_X "\",\"y\":\"" EC_Y "\""
#define ED_KEY "\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"" ED "\""

static void
check_set(const char *text, const char *problem)
{
    struct bh_jwks *jwks = NULL;
    struct bh_error err = {0};
    char *copy = exact_copy(text, strlen(text));
    enum bh_code code = bh_jwks_parse((struct bh_str){copy, strlen(text)}, &jwks, &err);
    free(copy);
    assert_int_equal(code, problem == NULL ? BH_OK : BH_E_INVALID);
    if (problem != NULL && strstr(err.detail, problem) == NULL)
        fail_msg("\"%s\" says not \"%s\"", err.detail, problem);
    if (code == BH_OK)
        bh_jwks_free(jwks);
}

static void
a_set_is_taken_whole_or_refused_with_the_reason(void **state)
{
    (void)state;
    check_set("{\"keys\":[{" EC_KEY "}]}", NULL);
    check_set("{\"keys\":[{" ED_KEY ",\"use\":\"sig\",\"alg\":\"EdDSA\",\"kid\":\"a\"}]}", NULL);
    check_set("{\"keys\":[{" ED_KEY ",\"key_ops\":[\"verify\"]},{\"kty\":\"strange\"}]}", NULL);
    check_set("{\"keys\":[{" ED_KEY ",\"use\":\"enc\"}]}", "no key for");
    check_set("{\"keys\":[{" ED_KEY ",\"alg\":\"RS256\"}]}", "no key for");
    check_set("{\"keys\":[{" ED_KEY ",\"key_ops\":[\"sign\"]}]}", "no key for");
    check_set("{\"keys\":[]}", "no key for");
    check_set("{\"keys\":{}}", "no array");
    check_set("[]", "no array");
    check_set("{\"keys\":[", "no strict JSON");
    check_set("{\"keys\":[],\"keys\":[]}", "no strict JSON");
    check_set("{\"keys\":[1]}", "key 1 of the set: it is no object");
    check_set("{\"keys\":[{" ED_KEY "},{" ED_KEY ",\"d\":\"x\"}]}",
        "key 2 of the set: it holds a secret");
    check_set("{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}", "it holds a secret");
    check_set("{\"keys\":[{" ED_KEY ",\"kid\":\"a\"},{" EC_KEY ",\"kid\":\"a\"}]}",
        "another key has its kid");
    check_set("{\"keys\":[{" ED_KEY ",\"kid\":7}]}", "its kid");
    check_set("{\"keys\":[{" ED_KEY ",\"kid\":\"\"}]}", "its kid");
    check_set("{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"AAAA\"}]}", "32 bytes");
    check_set("{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" EC_X "\",\"y\":\"" EC_X
              "\"}]}",
        "no point of P-256");
    check_set("{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"" EC_X "\"}]}", "coordinates");
    check_set("{\"keys\":[{\"kty\":\"RSA\",\"n\":\"AQAB\",\"e\":\"AQAB\"}]}", "2048");
}

static void
a_key_is_found_by_kid_and_algorithm_together(void **state)
{
    (void)state;
    struct bh_jwks *jwks;
    assert_int_equal(bh_jwks_parse(BH_STR("{\"keys\":[{" ED_KEY ",\"kid\":\"a\"},{" EC_KEY
                                          ",\"kid\":\"b\"},{" EC_KEY ",\"kid\":\"c\"}]}"),
                         &jwks, NULL),
        BH_OK);
    assert_int_equal(bh_jwks_count(jwks), 3);
    assert_non_null(bh_jwks_find(jwks, BH_STR("a"), BH_JWK_EDDSA));
    assert_null(bh_jwks_find(jwks, BH_STR("a"), BH_JWK_ES256)); /* the header never chooses */
    assert_null(bh_jwks_find(jwks, BH_STR("a"), BH_JWK_RS256));
    assert_null(bh_jwks_find(jwks, BH_STR("d"), BH_JWK_EDDSA));
    assert_non_null(bh_jwks_find(jwks, BH_STR(""), BH_JWK_EDDSA)); /* the only one */
    assert_null(bh_jwks_find(jwks, BH_STR(""), BH_JWK_ES256));     /* one of two */
    bh_jwks_free(jwks);
    bh_jwks_free(NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_vector_of_wycheproof_is_answered_right),
        cmocka_unit_test(a_set_is_taken_whole_or_refused_with_the_reason),
        cmocka_unit_test(a_key_is_found_by_kid_and_algorithm_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
