/* Whatever an issuer or a client sends: sets of keys, and tokens that nobody signed. */
#include "tests/fuzz/fuzz.h"

#include "core/jwt.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char set[] =
        "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"k1\",\"x\":"
        "\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}";
    struct bh_str text = {(const char *)data, size};
    struct bh_chunks chunks;
    struct bh_jwks *jwks, *own;
    struct bh_jwt jwt;
    struct bh_jwt_door door = {BH_STR("https://id.example"), BH_STR("shop"), 5, 1700000000};
    if (bh_jwks_parse(text, &jwks, NULL) == BH_OK) {
        MUST(bh_jwks_count(jwks) > 0 && bh_jwks_count(jwks) <= BH_JWKS_KEYS);
        bh_jwks_free(jwks);
    }
    bh_chunks_init(&chunks);
    MUST(bh_jwks_parse(bh_str_of(set), &own, NULL) == BH_OK);
    if (bh_jwt_parse(text, &chunks.arena, &jwt, NULL) == BH_OK) {
        MUST(jwt.claims->kind == BH_JSON_OBJECT && jwt.exp_s >= 0);
        MUST(bh_jwt_check(&jwt, own, &door, NULL) != BH_OK); /* nobody has the key */
        bh_jwt_claim(&jwt, jwt.kid);
    }
    bh_jwks_free(own);
    bh_chunks_fini(&chunks);
    return 0;
}
