/* A user token that parses holds only what a tenant token can hold, and survives being signed anew.
 */
#include "tests/fuzz/fuzz.h"

#include "core/token.h"
#include "core/usertoken.h"

static void
compare(const struct bh_usertoken *a, const struct bh_usertoken *b)
{
    MUST(memcmp(&a->kid, &b->kid, sizeof(a->kid)) == 0);
    MUST(bh_str_eq(a->tenant, b->tenant) && bh_str_eq(a->sub, b->sub));
    MUST(bh_str_eq(a->scope, b->scope) && bh_str_eq(a->audience, b->audience));
    MUST(a->iat_s == b->iat_s && a->exp_s == b->exp_s);
}

static void
sign_again(const struct bh_usertoken *token, struct bh_arena *arena)
{
    static char room[BH_USERTOKEN_MAX + 1];
    struct bh_usertoken back;
    struct bh_buf out;
    bh_buf_init(&out, room, sizeof(room));
    enum bh_code code = bh_usertoken_sign(fixed_mac(), token, &out, NULL);
    MUST(code == BH_OK || !bh_token_word_valid(token->audience));
    if (code != BH_OK)
        return;
    MUST(bh_usertoken_parse(bh_buf_str(&out), arena, &back, NULL) == BH_OK);
    compare(token, &back);
}

static void
check_at_its_own_door(const struct bh_usertoken *token, bool rightly_signed)
{
    struct bh_usertoken_door door = {.install = token->audience,
        .tenant = token->tenant,
        .no = token->kid.no,
        .tenant_epoch = token->kid.tenant_epoch,
        .now_s = token->iat_s};
    int64_t life_s = token->exp_s - token->iat_s;
    bool good = bh_str_is(token->issuer, "bulkhead") && life_s > 0 && life_s <= 86400 &&
                token->nbf_s <= token->iat_s + 5;
    enum bh_code code = bh_usertoken_check(token, fixed_mac(), &door, NULL);
    MUST(code == BH_OK || code == BH_E_TOKEN_INVALID);
    MUST(code != BH_OK || good);
    MUST(code == BH_OK || !good || !rightly_signed);
    door.no = door.no == 1 ? 2 : 1;
    code = bh_usertoken_check(token, fixed_mac(), &door, NULL);
    MUST(code == BH_E_TOKEN_TENANT_MISMATCH || code == BH_E_TOKEN_INVALID);
    MUST(bh_usertoken_check(token, NULL, &door, NULL) == BH_E_TOKEN_INVALID);
}

static void
try_token(struct bh_str text, bool rightly_signed)
{
    struct bh_usertoken token;
    struct bh_chunks chunks;
    bh_chunks_init(&chunks);
    enum bh_code code = bh_usertoken_parse(text, &chunks.arena, &token, NULL);
    MUST(code == BH_OK || code == BH_E_TOKEN_INVALID);
    if (code == BH_OK) {
        MUST(text.len <= BH_USERTOKEN_MAX);
        MUST(bh_token_word_valid(token.sub) && bh_token_scope_valid(token.scope));
        MUST(bh_tenant_id_check(token.tenant, NULL) == BH_OK);
        MUST(token.kid.no >= 1 && token.iat_s >= 0 && token.exp_s >= 0 && token.nbf_s >= 0);
        check_at_its_own_door(&token, rightly_signed);
        sign_again(&token, &chunks.arena);
    }
    bh_chunks_fini(&chunks);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char room[2 * BH_USERTOKEN_MAX];
    struct bh_str input = {(const char *)data, size};
    struct bh_buf made;
    bh_buf_init(&made, room, sizeof(room));
    try_token(input, false);
    if (make_signed(input, &made))
        try_token(bh_buf_str(&made), true);
    return 0;
}
