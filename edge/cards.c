/*
 * Verdicts on credentials, with the tenant tokens minted for them, in memory
 * that all workers share: what one verified no other verifies again, and a
 * reload or a worker's death forgets nothing.  In front of it each worker has a
 * cache of its own (token.c).
 *
 * There are no locks, so no process can die with one.  A card is written and
 * copied word by word while others may do the same, and carries a MAC of all of
 * itself: what is not whole, or was never ours, is simply not found.
 *
 * A card lies under a MAC of all that it depends on: tenant, epoch, keyring,
 * policy, where its token leads, and the credential.  Where one of them
 * changes, the card is not found any more.  The credential itself is not kept.
 */
#include "edge/edge.h"

#include <openssl/sha.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/buf.h"
#include "core/codec.h"
#include "core/token.h"

#define ZONE_DEFAULT ((size_t)32 << 20)
#define ZONE_MIN ((size_t)1 << 20)
#define WAYS 4
#define WORD sizeof(uint64_t)
#define ID_BYTES 32
#define REFUSED_PLACES 4096 /* a power of two */
#define REFUSED_MS 2000

struct card {
    uint8_t tag[BH_MAC_BYTES]; /* of all that follows, as far as ${len} */
    uint8_t id[ID_BYTES];
    uint32_t len; /* bytes of the card that are used */
    uint16_t sub_len;
    uint16_t scope_len;
    uint16_t roles_len;
    uint16_t source_len;
    uint16_t token_len;
    uint16_t unused;
    int64_t until_s;
    int64_t token_exp_s;
    uint64_t source_print;
    char text[]; /* sub, scope, roles, source, token */
};

#define CARD_MAX 4096
_Static_assert(
    sizeof(struct card) + 255 + 255 + BH_EDGE_ROLES_MAX + BH_EDGE_SOURCE_MAX + BH_TOKEN_MAX <=
        CARD_MAX,
    "every card fits the largest size");

/* Most cards are small; both sizes of place share the zone half and half. */
static const size_t sizes[] = {1024, CARD_MAX};
#define SIZES (sizeof(sizes) / sizeof(sizes[0]))

struct zone {
    struct bh_key id_key;
    struct bh_key tag_key;
    size_t sets[SIZES];
    _Atomic uint64_t *places[SIZES]; /* mapped at the same address in all workers */
};

/* What this worker has of it. */
static struct {
    const struct zone *zone;
    struct bh_mac *id_mac;
    struct bh_mac *tag_mac;
} mine;

static struct refusal {
    uint64_t id;
    uint64_t txn;
    uint64_t generation;
    ngx_msec_t when;
} refused[REFUSED_PLACES];

/* ---- the zone ---- */

static bool
carve(ngx_shm_zone_t *shm, ngx_slab_pool_t *pool, struct zone *zone)
{
    /* Some pages are the pool's own. */
    size_t share = (shm->shm.size - shm->shm.size / 16 - 16 * ngx_pagesize) / SIZES;
    for (size_t i = 0; i < SIZES; i++) {
        zone->sets[i] = share / (sizes[i] * WAYS);
        /* Fresh memory of the system, all zero; not touched before it is used. */
        zone->places[i] = ngx_slab_alloc(pool, zone->sets[i] * sizes[i] * WAYS);
        if (zone->places[i] == NULL) {
            return false;
        }
    }
    return bh_edge_random(zone->id_key.bytes, BH_KEY_BYTES) &&
           bh_edge_random(zone->tag_key.bytes, BH_KEY_BYTES);
}

static ngx_int_t
init_zone(ngx_shm_zone_t *shm, void *old)
{
    ngx_slab_pool_t *pool = (ngx_slab_pool_t *)(void *)shm->shm.addr;
    if (old != NULL || shm->shm.exists) { /* a reload forgets nothing */
        shm->data = old != NULL ? old : pool->data;
        return NGX_OK;
    }
    struct zone *zone = ngx_slab_calloc(pool, sizeof(*zone));
    if (zone == NULL || !carve(shm, pool, zone)) {
        return NGX_ERROR;
    }
    pool->data = zone;
    shm->data = zone;
    return NGX_OK;
}

static char bad_size[] = "must be off or a size of at least 1m";
static char duplicate[] = "is duplicate";

char *
bh_edge_cards_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    struct bh_edge_main *main = conf;
    ngx_str_t *word = &((ngx_str_t *)cf->args->elts)[1];
    (void)cmd;
    if (main->cards_size != NGX_CONF_UNSET_SIZE) {
        return duplicate;
    }
    ssize_t size = ngx_strcmp(word->data, "off") == 0 ? 0 : ngx_parse_size(word);
    if (size != 0 && (size == NGX_ERROR || (size_t)size < ZONE_MIN)) {
        return bad_size;
    }
    main->cards_size = (size_t)size;
    return NGX_CONF_OK;
}

ngx_int_t
bh_edge_cards_setup(ngx_conf_t *cf, struct bh_edge_main *conf)
{
    static ngx_str_t name = ngx_string("bulkhead_credential_cache");
    size_t size = conf->cards_size == NGX_CONF_UNSET_SIZE ? ZONE_DEFAULT : conf->cards_size;
    if (size == 0 || conf->snapshot.len == 0) {
        return NGX_OK;
    }
    conf->cards = ngx_shared_memory_add(cf, &name, size, &ngx_http_bulkhead_module);
    if (conf->cards == NULL) {
        return NGX_ERROR;
    }
    conf->cards->init = init_zone;
    return NGX_OK;
}

static bool
rekey(struct bh_mac **mac, const struct bh_key *key)
{
    return (*mac == NULL ? bh_mac_new(key, mac, NULL) : bh_mac_rekey(*mac, key, NULL)) == BH_OK;
}

/* The MACs of the zone; without one, of keys that only this worker has. */
static bool
ready(const struct bh_edge_main *conf)
{
    struct zone own = {.sets = {0}};
    const struct zone *zone = conf->cards == NULL ? NULL : conf->cards->data;
    if (mine.tag_mac != NULL && mine.zone == zone) {
        return true;
    }
    if (zone == NULL && (!bh_edge_random(own.id_key.bytes, BH_KEY_BYTES) ||
                            !bh_edge_random(own.tag_key.bytes, BH_KEY_BYTES))) {
        return false;
    }
    mine.zone = zone;
    if (zone == NULL) {
        zone = &own;
    }
    return rekey(&mine.id_mac, &zone->id_key) && rekey(&mine.tag_mac, &zone->tag_key);
}

/* ---- names of cards ---- */

static void
add_text(struct bh_buf *out, struct bh_str text)
{
    uint32_t len = (uint32_t)text.len;
    bh_buf_add(out, &len, sizeof(len));
    bh_buf_str_add(out, text);
}

/* All that a verdict and its token depend on, but for the document that vouches. */
static bool
name_card(const struct bh_edge_ctx *ctx, struct bh_str credential, uint8_t ret_id[ID_BYTES])
{
    static char room[BH_EDGE_CREDENTIAL_MAX + 1024];
    struct bh_edge_main *conf =
        ngx_http_cycle_get_module_main_conf(ngx_cycle, ngx_http_bulkhead_module);
    const uint64_t numbers[] = {(uint64_t)ctx->tenant.record.no, ctx->tenant.record.epoch,
        bh_edge.keyring_print, ctx->tenant.policy->print};
    struct bh_buf out;
    if (conf == NULL || !ready(conf)) {
        return false;
    }
    bh_buf_init(&out, room, sizeof(room));
    bh_buf_add(&out, numbers, sizeof(numbers));
    bh_buf_add(&out, ctx->tenant.record.uid.bytes, sizeof(ctx->tenant.record.uid.bytes));
    add_text(&out, (struct bh_str){ctx->tenant.id, ctx->tenant.id_len});
    add_text(&out, ctx->tenant.server);
    add_text(&out, ctx->tenant.database);
    add_text(&out, credential);
    bool ok = bh_buf_ok(&out) && bh_mac_run(mine.id_mac, bh_buf_str(&out), ret_id, NULL) == BH_OK;
    bh_wipe(room, out.len);
    return ok;
}

/* ---- cards ---- */

static _Atomic uint64_t *
place_of(size_t size, const uint8_t id[ID_BYTES], size_t way)
{
    uint32_t hash;
    memcpy(&hash, id, sizeof(hash));
    size_t index = hash % mine.zone->sets[size] * WAYS + way;
    return mine.zone->places[size] + index * (sizes[size] / WORD);
}

static void
copy_out(void *to, const _Atomic uint64_t *from, size_t len)
{
    for (size_t i = 0; i < (len + WORD - 1) / WORD; i++) {
        uint64_t word = atomic_load_explicit(&from[i], memory_order_relaxed);
        memcpy((char *)to + i * WORD, &word, WORD);
    }
}

static void
copy_in(_Atomic uint64_t *to, const void *from, size_t len)
{
    for (size_t i = 0; i < (len + WORD - 1) / WORD; i++) {
        uint64_t word;
        memcpy(&word, (const char *)from + i * WORD, WORD);
        atomic_store_explicit(&to[i], word, memory_order_relaxed);
    }
}

static bool
tag_of(const struct card *card, uint8_t ret_tag[BH_MAC_BYTES])
{
    struct bh_str rest = {(const char *)card->id, card->len - offsetof(struct card, id)};
    return bh_mac_run(mine.tag_mac, rest, ret_tag, NULL) == BH_OK;
}

/* Is what was copied one whole card of that name? */
static bool
is_whole(const struct card *card, const uint8_t id[ID_BYTES], size_t size)
{
    uint8_t tag[BH_MAC_BYTES];
    size_t texts = (size_t)card->sub_len + card->scope_len + card->roles_len + card->source_len +
                   card->token_len;
    return card->len <= size && card->len == sizeof(*card) + texts &&
           bh_equal_ct(card->id, id, ID_BYTES) && tag_of(card, tag) &&
           bh_equal_ct(card->tag, tag, sizeof(tag));
}

static bool
read_card(size_t size, const uint8_t id[ID_BYTES], union bh_edge_card_room *room)
{
    struct card *card = (struct card *)room->bytes;
    for (size_t way = 0; way < WAYS; way++) {
        _Atomic uint64_t *place = place_of(size, id, way);
        copy_out(card, place, sizeof(*card));
        if (card->len > sizes[size] || memcmp(card->id, id, ID_BYTES) != 0) {
            continue;
        }
        copy_out(card, place, card->len);
        if (is_whole(card, id, sizes[size])) {
            return true;
        }
    }
    return false;
}

static struct bh_str
take(const char **at, size_t len)
{
    struct bh_str text = {*at, len};
    *at += len;
    return text;
}

bool
bh_edge_card_find(const struct bh_edge_ctx *ctx, struct bh_str credential,
    union bh_edge_card_room *room, struct bh_edge_card *ret_card)
{
    uint8_t id[ID_BYTES];
    bool found = false;
    const struct card *card = (const struct card *)room->bytes;
    if (!name_card(ctx, credential, id) || mine.zone == NULL) {
        return false;
    }
    for (size_t size = 0; size < SIZES && !found; size++) {
        found = read_card(size, id, room);
    }
    if (!found || card->until_s <= ngx_time()) {
        return false;
    }
    const char *at = card->text;
    *ret_card = (struct bh_edge_card){.token_exp_s = card->token_exp_s};
    ret_card->verdict.sub = take(&at, card->sub_len);
    ret_card->verdict.scope = take(&at, card->scope_len);
    ret_card->verdict.roles = take(&at, card->roles_len);
    ret_card->verdict.source = take(&at, card->source_len);
    ret_card->token = take(&at, card->token_len);
    ret_card->verdict.source_print = card->source_print;
    ret_card->verdict.until_s = card->until_s;
    return true;
}

/* The place of that very card, one that is free or out of time, or any. */
static _Atomic uint64_t *
choose(size_t size, const uint8_t id[ID_BYTES])
{
    struct card head = {.len = 0};
    uint8_t any = 0;
    _Atomic uint64_t *free_place = NULL;
    for (size_t way = 0; way < WAYS; way++) {
        _Atomic uint64_t *place = place_of(size, id, way);
        copy_out(&head, place, sizeof(head));
        if (memcmp(head.id, id, ID_BYTES) == 0) {
            return place;
        }
        if (free_place == NULL && (head.len == 0 || head.until_s <= ngx_time())) {
            free_place = place;
        }
    }
    (void)bh_edge_random(&any, sizeof(any));
    return free_place != NULL ? free_place : place_of(size, id, any % WAYS);
}

static void
put(char **at, struct bh_str text)
{
    memcpy(*at, text.data, text.len);
    *at += text.len;
}

void
bh_edge_card_keep(
    const struct bh_edge_ctx *ctx, struct bh_str credential, const struct bh_edge_card *what)
{
    union bh_edge_card_room room = {.bytes = {0}};
    struct card *card = (struct card *)room.bytes;
    const struct bh_edge_verdict *verdict = &what->verdict;
    size_t texts = verdict->sub.len + verdict->scope.len + verdict->roles.len +
                   verdict->source.len + what->token.len;
    if (sizeof(*card) + texts > sizeof(room) || !name_card(ctx, credential, card->id) ||
        mine.zone == NULL) {
        return;
    }
    card->len = (uint32_t)(sizeof(*card) + texts);
    card->sub_len = (uint16_t)verdict->sub.len;
    card->scope_len = (uint16_t)verdict->scope.len;
    card->roles_len = (uint16_t)verdict->roles.len;
    card->source_len = (uint16_t)verdict->source.len;
    card->token_len = (uint16_t)what->token.len;
    card->until_s = verdict->until_s;
    card->token_exp_s = what->token_exp_s;
    card->source_print = verdict->source_print;
    char *at = card->text;
    put(&at, verdict->sub);
    put(&at, verdict->scope);
    put(&at, verdict->roles);
    put(&at, verdict->source);
    put(&at, what->token);
    if (tag_of(card, card->tag)) {
        size_t size = card->len <= sizes[0] ? 0 : 1;
        copy_in(choose(size, card->id), card, card->len);
    }
    bh_wipe(&room, sizeof(room));
}

/* ---- what was refused ---- */

static struct refusal *
refusal_of(const struct bh_edge_ctx *ctx, struct bh_str credential, uint64_t *ret_id)
{
    uint8_t id[ID_BYTES];
    if (!name_card(ctx, credential, id)) {
        return NULL;
    }
    memcpy(ret_id, id, sizeof(*ret_id));
    return &refused[*ret_id & (REFUSED_PLACES - 1)];
}

bool
bh_edge_refused_before(const struct bh_edge_ctx *ctx, struct bh_str credential)
{
    uint64_t id;
    const struct refusal *refusal = refusal_of(ctx, credential, &id);
    return refusal != NULL && refusal->id == id && refusal->txn == ctx->txn &&
           refusal->generation == bh_edge.generation &&
           ngx_current_msec - refusal->when < REFUSED_MS;
}

void
bh_edge_refused_remember(const struct bh_edge_ctx *ctx, struct bh_str credential)
{
    uint64_t id;
    struct refusal *refusal = refusal_of(ctx, credential, &id);
    if (refusal != NULL) {
        *refusal = (struct refusal){id, ctx->txn, bh_edge.generation, ngx_current_msec};
    }
}

void
bh_edge_cards_close(void)
{
    bh_mac_free(mine.id_mac);
    bh_mac_free(mine.tag_mac);
    ngx_memzero(&mine, sizeof(mine));
}
