/* A key has its form or is none; a key's document that is accepted can be minted into a token. */
#include "tests/fuzz/fuzz.h"

#include "core/apikey.h"
#include "core/token.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bh_chunks chunks;
    struct bh_apikey key;
    struct bh_error err = {.code = BH_OK};
    struct bh_str text = {(const char *)data, size};
    if (bh_apikey_valid(text)) {
        struct bh_str prefix = bh_apikey_prefix(text);
        MUST(prefix.len >= 12 && prefix.len <= 36 && text.len - prefix.len > 32);
    }
    bh_chunks_init(&chunks);
    if (bh_apikey_parse(text, &chunks.arena, &key, &err) == BH_OK) {
        MUST(key.no >= 1 && key.no <= INT32_MAX && key.epoch >= -1 && key.not_after_s >= 0);
        MUST(bh_token_word_valid(key.sub) && bh_token_scope_valid(key.scope));
        MUST(key.roles.count <= BH_APIKEY_ROLES_MAX);
    } else {
        MUST(err.detail[0] != '\0');
    }
    bh_chunks_fini(&chunks);
    return 0;
}
