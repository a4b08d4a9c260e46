#include "postgres.h"

#include <time.h>

#include "core/codec.h"
#include "data/believed.h"
#include "data/keys.h"
#include "data/raise.h"
#include "data/settings.h"

#define PLACES 8

/* A token that was right under the keys of ${generation}; ${parts} points into ${text} and itself.
 */
struct believed {
    size_t len; /* 0: none */
    uint64 generation;
    char text[BH_TOKEN_MAX];
    struct bh_token_parts parts;
};

static struct believed believed[PLACES];

/* By the last characters, which are of the MAC. */
static struct believed *
place(struct bh_str text)
{
    unsigned char sum = 0;

    for (size_t i = text.len < 4 ? 0 : text.len - 4; i < text.len; i++)
        sum = (unsigned char)(sum * 5 + (unsigned char)text.data[i]);
    return &believed[sum % PLACES];
}

/* Details of the core hold fixed texts only, nothing of the token. */
static void
parse(struct bh_str text, struct believed *into)
{
    struct bh_error err = {0};

    if (text.len > sizeof(into->text))
        bh_raise_refused("it is too long", NULL);
    memcpy(into->text, text.data, text.len);
    if (bh_token_parse((struct bh_str){into->text, text.len}, &into->parts, &err) != BH_OK)
        bh_raise_refused(
            err.detail, "Bind the value of the request's X-Bulkhead-Token header unchanged.");
}

/* MAC where it was not found right under these keys before; audience and times always. */
static void
check(const struct believed *it, bool known)
{
    struct bh_error err = {0};
    int64_t now_s = (int64_t)time(NULL);
    struct bh_mac *mac = bh_keys_find(it->parts.kid, now_s); /* may read the key file again */
    struct bh_str server = bh_str_of(bh_server);
    struct bh_str database = bh_str_of(bh_keys_database());
    enum bh_code code;

    if (known && it->generation == bh_keys_generation())
        code = bh_token_check_claims(&it->parts.claims, server, database, now_s, &err);
    else
        code = bh_token_check(&it->parts, mac, server, database, now_s, &err);
    if (code != BH_OK)
        bh_raise_refused(err.detail, "Use the token of the current request, for this database.");
}

const struct bh_token *
bh_believed_claims(struct bh_str text)
{
    struct believed *it = place(text);
    bool known = it->len != 0 && it->len == text.len && bh_equal_ct(it->text, text.data, text.len);

    if (!known) {
        it->len = 0; /* until it is believed */
        parse(text, it);
    }
    check(it, known);
    it->len = text.len;
    it->generation = bh_keys_generation();
    return &it->parts.claims;
}
