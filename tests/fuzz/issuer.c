/* An issuer's document that is accepted is within its limits, and nobody without its key is
 * believed. */
#include "tests/fuzz/fuzz.h"

#include "core/issuer.h"

/* Well-formed, rightly addressed, and signed by nobody. */
static const char token[] =
    "eyJhbGciOiJFZERTQSIsImtpZCI6ImsxIn0."
    "eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUiLCJhdWQiOlsic2hvcCJdLCJzdWIiOiJ1MSIsImV4cCI6MTcwMDAwMDA2MCwib3JnIjoiYWNtZSJ9."
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

static void
show(const struct bh_issuer *issuer, struct bh_arena *arena)
{
    struct bh_jwt jwt;
    struct bh_person person;
    struct bh_issuer_door door = {BH_STR("acme"), 1700000000};
    MUST(bh_jwt_parse(bh_str_of(token), arena, &jwt, NULL) == BH_OK);
    MUST(bh_issuer_check(issuer, &jwt, &door, arena, &person, NULL) != BH_OK);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bh_chunks chunks;
    struct bh_issuer issuer;
    struct bh_error err = {.code = BH_OK};
    bh_chunks_init(&chunks);
    if (bh_issuer_parse((struct bh_str){(const char *)data, size}, &chunks.arena, &issuer, &err) ==
        BH_OK) {
        MUST(issuer.issuer.len > 0 && issuer.audiences.count > 0 &&
             issuer.audiences.count <= BH_ISSUER_AUDIENCES_MAX);
        MUST(issuer.algorithms > 0 && issuer.algorithms < 1U << BH_JWK_ALG_COUNT);
        MUST(issuer.subject.len > 0 && issuer.leeway_s <= 300);
        MUST(issuer.tenant_values == NULL || issuer.tenant.len > 0);
        show(&issuer, &chunks.arena);
        bh_issuer_fini(&issuer);
    } else {
        MUST(err.detail[0] != '\0' && issuer.jwks == NULL);
    }
    bh_chunks_fini(&chunks);
    return 0;
}
