/* A tenant token that parses is canonical: signing its claims again gives the same bytes. */
#include "tests/fuzz/fuzz.h"

#include "core/tenant.h"
#include "core/token.h"

static bool
inside(const struct bh_token_parts *parts, struct bh_str s)
{
    return s.data >= parts->storage && s.data + s.len <= parts->storage + sizeof(parts->storage);
}

static void
try_token(struct bh_str text, bool rightly_signed)
{
    struct bh_token_parts parts;
    struct bh_error err;
    enum bh_code code = bh_token_parse(text, &parts, &err);
    MUST(code == BH_OK || code == BH_E_TOKEN_INVALID);
    if (code != BH_OK)
        return;
    const struct bh_token *claims = &parts.claims;
    char room[BH_TOKEN_MAX + 1];
    struct bh_buf again;
    bh_buf_init(&again, room, sizeof(room));
    MUST(text.len <= BH_TOKEN_MAX);
    MUST(inside(&parts, parts.kid) && inside(&parts, claims->sub) && inside(&parts, claims->scope));
    MUST(bh_token_word_valid(claims->sub) && bh_token_scope_valid(claims->scope));
    MUST(bh_tenant_id_check(claims->tenant, NULL) == BH_OK && claims->no >= 1);
    MUST(bh_token_sign(fixed_mac(), parts.kid, claims, &again, &err) == BH_OK);
    MUST(bh_str_starts(bh_buf_str(&again), "ey"));
    MUST(again.len == text.len);
    MUST(memcmp(room, text.data, parts.signed_part.len + 1) == 0);
    bool same = memcmp(room, text.data, text.len) == 0;
    MUST(same || !rightly_signed);
    code =
        bh_token_check(&parts, fixed_mac(), claims->server, claims->database, claims->iat_s, &err);
    int64_t life_s = claims->exp_s - claims->iat_s;
    bool good = same && life_s > 0 && life_s <= (claims->use == BH_TOKEN_JOB ? 3600 : 60);
    MUST(code == (good ? BH_OK : BH_E_TOKEN_INVALID));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bh_str input = {(const char *)data, size};
    char room[4 * BH_TOKEN_MAX];
    struct bh_buf made;
    bh_buf_init(&made, room, sizeof(room));
    try_token(input, false);
    if (make_signed(input, &made))
        try_token(bh_buf_str(&made), true);
    return 0;
}
