/*
 * Minting tenant tokens, and the worker's cache of verdicts and tokens.
 *
 * A credential that was accepted once is found again by its bytes, all of them
 * compared in constant time, under the last bytes of its signature, which
 * nobody can choose without the key.  An entry counts for one tenant number
 * and epoch, one keyring, one policy, while the document that vouches is the
 * same, and until the credential ends.  What this worker does not know, another
 * one may (cards.c).
 */
#include "edge/edge.h"

#include "core/codec.h"
#include "core/token.h"
#include "core/usertoken.h"

#define BUCKETS 65536
#define ENTRIES_MAX 65536
#define BYTES_MAX ((size_t)96 << 20)
#define ENTRY_USUAL 896 /* bytes, with its credential and its token */
#define CACHE_LINE 64
#define FRESH_S 30 /* a token goes out with at least so many seconds left */

struct entry {
    ngx_queue_t age; /* oldest last; one that was used since is spared once */
    struct entry *next;
    uint32_t bucket;
    int32_t no;
    uint32_t epoch;
    uint32_t server; /* numbers of interned names: what the token's aud was made of */
    uint32_t database;
    uint64_t keyring;
    uint64_t policy; /* print of it */
    uint64_t txn;    /* of the snapshot where the document that vouches was seen last */
    uint64_t generation;
    bool used;
    int64_t token_exp_s;
    size_t token_len;
    struct bh_str credential;
    struct bh_edge_verdict verdict;
    size_t size;
    size_t room;  /* for the token, BH_TOKEN_MAX at most */
    char *token;  /* behind the texts */
    char texts[]; /* the credential, then those of the verdict */
};

static struct entry **buckets;
static ngx_queue_t ages;
static size_t entries;
static size_t bytes;

static bool
setup(void)
{
    if (buckets == NULL) {
        buckets = bh_edge_keep(BUCKETS * sizeof(*buckets));
        ngx_queue_init(&ages);
    }
    return buckets != NULL;
}

static uint32_t
bucket_of(int32_t no, struct bh_str credential)
{
    uint64_t word = (uint64_t)(uint32_t)no;
    if (credential.len >= sizeof(word)) {
        memcpy(&word, credential.data + credential.len - sizeof(word), sizeof(word));
    }
    word *= UINT64_C(0x9e3779b97f4a7c15);
    return (uint32_t)(word >> 48); /* the 16 highest bits: BUCKETS */
}

/*
 * Among thousands of tenants an entry has left the processor's caches since its
 * last request.  The credential names its place long before it is looked at.
 */
static struct entry **
bucket_ahead(ngx_http_request_t *r)
{
    ngx_table_elt_t *header = r->headers_in.authorization;
    if (buckets == NULL || header == NULL || header->value.len < sizeof(uint64_t)) {
        return NULL;
    }
    struct bh_str value = {(const char *)header->value.data, header->value.len};
    return &buckets[bucket_of(0, value)];
}

void
bh_edge_token_ahead(ngx_http_request_t *r)
{
    struct entry **bucket = bucket_ahead(r);
    if (bucket != NULL) {
        __builtin_prefetch(bucket);
    }
}

void
bh_edge_token_next(ngx_http_request_t *r)
{
    struct entry **bucket = bucket_ahead(r);
    const char *entry = bucket == NULL ? NULL : (const char *)*bucket;
    for (size_t i = 0; entry != NULL && i < ENTRY_USUAL; i += CACHE_LINE) {
        __builtin_prefetch(entry + i);
    }
}

static void
drop(struct entry *entry)
{
    struct entry **link = &buckets[entry->bucket];
    while (*link != entry) {
        link = &(*link)->next;
    }
    *link = entry->next;
    ngx_queue_remove(&entry->age);
    entries--;
    bytes -= entry->size;
    bh_wipe(entry, entry->size);
    ngx_free(entry);
}

void
bh_edge_tokens_wipe(void)
{
    while (entries > 0) {
        drop(ngx_queue_data(ngx_queue_last(&ages), struct entry, age));
    }
}

static bool
same(const struct entry *entry, int32_t no, struct bh_str credential)
{
    return entry->no == no && entry->credential.len == credential.len &&
           bh_equal_ct(entry->credential.data, credential.data, credential.len);
}

/* Is the document that vouches for it the same as it was? */
static bool
is_vouched(const struct bh_edge_verdict *verdict)
{
    if (verdict->source.len == 0) {
        return true;
    }
    if (bh_snapshot_begin(bh_edge.snapshot, NULL) != BH_OK) {
        return false;
    }
    bool same = bh_edge_source_print(verdict->source) == verdict->source_print;
    bh_snapshot_end(bh_edge.snapshot);
    return same;
}

/* While nothing is committed, no document changes. */
static bool
is_current(const struct bh_edge_ctx *ctx, struct entry *entry)
{
    if (entry->epoch != ctx->tenant.record.epoch || entry->keyring != bh_edge.keyring_generation ||
        entry->policy != ctx->tenant.policy->print || entry->verdict.until_s <= ngx_time()) {
        return false;
    }
    if (entry->txn == ctx->txn && entry->generation == bh_edge.generation) {
        return true;
    }
    entry->txn = ctx->txn;
    entry->generation = bh_edge.generation;
    return is_vouched(&entry->verdict);
}

/* The entry of a credential at this tenant; one that counts no more is dropped. */
static struct entry *
find(const struct bh_edge_ctx *ctx, struct bh_str credential)
{
    struct entry *entry = buckets[bucket_of(ctx->tenant.record.no, credential)];
    while (entry != NULL && !same(entry, ctx->tenant.record.no, credential)) {
        entry = entry->next;
    }
    if (entry != NULL && !is_current(ctx, entry)) {
        drop(entry);
        return NULL;
    }
    return entry;
}

/*
 * Second chance instead of a strict order of use: moving an entry to the front
 * at each request would touch its neighbours' cache lines.
 */
static void
make_room(size_t size)
{
    while (entries > 0 && (entries >= ENTRIES_MAX || bytes + size > BYTES_MAX)) {
        struct entry *oldest = ngx_queue_data(ngx_queue_last(&ages), struct entry, age);
        if (!oldest->used) {
            drop(oldest);
            continue;
        }
        oldest->used = false;
        ngx_queue_remove(&oldest->age);
        ngx_queue_insert_head(&ages, &oldest->age);
    }
}

static struct bh_str
put(char **to, struct bh_str text)
{
    char *start = *to;
    if (text.len > 0) { /* an empty one may lie nowhere */
        memcpy(start, text.data, text.len);
    }
    *to += text.len;
    return (struct bh_str){start, text.len};
}

/* The most that a token of this verdict can need: base64url of a payload with these values. */
static size_t
token_room(const struct bh_edge_ctx *ctx, const struct bh_edge_verdict *verdict)
{
    size_t payload = 192 + ctx->tenant.server.len + ctx->tenant.database.len + ctx->tenant.id_len +
                     verdict->sub.len + verdict->scope.len;
    size_t room = 4 * (BH_KID_MAX + 64 + payload) / 3 + 64;
    return room < BH_TOKEN_MAX + 1 ? room : BH_TOKEN_MAX + 1;
}

static struct entry *
insert(
    const struct bh_edge_ctx *ctx, struct bh_str credential, const struct bh_edge_verdict *verdict)
{
    size_t room = token_room(ctx, verdict);
    size_t size = sizeof(struct entry) + room + credential.len + verdict->sub.len +
                  verdict->scope.len + verdict->roles.len + verdict->source.len;
    make_room(size);
    struct entry *entry = bh_edge_keep(size);
    if (entry == NULL) {
        return NULL;
    }
    char *to = entry->texts;
    entry->credential = put(&to, credential);
    entry->verdict = *verdict;
    entry->verdict.sub = put(&to, verdict->sub);
    entry->verdict.scope = put(&to, verdict->scope);
    entry->verdict.roles = put(&to, verdict->roles);
    entry->verdict.source = put(&to, verdict->source);
    entry->token = to;
    entry->room = room;
    entry->bucket = bucket_of(ctx->tenant.record.no, credential);
    entry->no = ctx->tenant.record.no;
    entry->epoch = ctx->tenant.record.epoch;
    entry->keyring = bh_edge.keyring_generation;
    entry->policy = ctx->tenant.policy->print;
    entry->txn = ctx->txn;
    entry->generation = bh_edge.generation;
    entry->size = size;
    entry->next = buckets[entry->bucket];
    buckets[entry->bucket] = entry;
    ngx_queue_insert_head(&ages, &entry->age);
    entries++;
    bytes += size;
    return entry;
}

static enum bh_code
sign(const struct bh_edge_ctx *ctx, const struct bh_key_row *row, const struct bh_token *token,
    struct bh_buf *out)
{
    struct bh_key key;
    enum bh_code code = bh_key_database(&row->key, ctx->tenant.database, &key, NULL);
    if (code == BH_OK) {
        code = bh_mac_rekey(bh_edge.mac, &key, NULL);
    }
    bh_wipe(&key, sizeof(key));
    BH_TRY(code);
    return bh_token_sign(bh_edge.mac, bh_str_of(row->kid), token, out, NULL);
}

static enum bh_code
mint(const struct bh_edge_ctx *ctx, struct entry *entry, const char **ret_reason)
{
    int64_t now = ngx_time();
    const struct bh_key_row *row = bh_keyring_server(bh_edge.keyring, ctx->tenant.server, now);
    if (row == NULL) {
        *ret_reason = "the keyring has no valid key of the tenant's database server";
        return BH_E_NOT_READY;
    }
    struct bh_token token = {
        .server = ctx->tenant.server,
        .database = ctx->tenant.database,
        .iat_s = now,
        .exp_s = now + BH_TOKEN_REQUEST_LIFE_S,
        .no = ctx->tenant.record.no,
        .scope = entry->verdict.scope,
        .sub = entry->verdict.sub,
        .tenant = {ctx->tenant.id, ctx->tenant.id_len},
        .use = BH_TOKEN_REQUEST,
        .epoch = ctx->tenant.record.epoch,
    };
    struct bh_buf out;
    bh_buf_init(&out, entry->token, entry->room);
    if (sign(ctx, row, &token, &out) != BH_OK || !bh_buf_ok(&out)) {
        *ret_reason = "the tenant token cannot be signed";
        return BH_E_INTERNAL;
    }
    entry->token_len = out.len;
    entry->token_exp_s = token.exp_s;
    entry->server = ctx->tenant.record.names[BH_NAME_SERVER];
    entry->database = ctx->tenant.record.names[BH_NAME_DATABASE];
    return BH_OK;
}

/* Mint, and tell the other workers; what needed no proof is not worth telling. */
static enum bh_code
mint_and_tell(const struct bh_edge_ctx *ctx, struct entry *entry, const char **ret_reason)
{
    BH_TRY(mint(ctx, entry, ret_reason));
    if (entry->credential.len > 0) {
        struct bh_edge_card card = {.verdict = entry->verdict,
            .token = {entry->token, entry->token_len},
            .token_exp_s = entry->token_exp_s};
        bh_edge_card_keep(ctx, entry->credential, &card);
    }
    return BH_OK;
}

static bool
is_fresh(const struct bh_edge_ctx *ctx, const struct entry *entry)
{
    return entry->token_exp_s - ngx_time() >= FRESH_S &&
           entry->server == ctx->tenant.record.names[BH_NAME_SERVER] &&
           entry->database == ctx->tenant.record.names[BH_NAME_DATABASE];
}

/* What another worker found out, or this one before it was replaced. */
static struct entry *
recall(const struct bh_edge_ctx *ctx, struct bh_str credential)
{
    union bh_edge_card_room room;
    struct bh_edge_card card;
    struct entry *entry = NULL;
    if (bh_edge_card_find(ctx, credential, &room, &card) && is_vouched(&card.verdict)) {
        entry = insert(ctx, credential, &card.verdict);
    }
    if (entry != NULL && card.token.len <= entry->room) {
        memcpy(entry->token, card.token.data, card.token.len);
        entry->token_len = card.token.len;
        entry->token_exp_s = card.token_exp_s;
        entry->server = ctx->tenant.record.names[BH_NAME_SERVER];
        entry->database = ctx->tenant.record.names[BH_NAME_DATABASE];
    }
    bh_wipe(&room, sizeof(room));
    return entry;
}

/* Who is let in without a credential of ours: anybody, or whom the application knows. */
static struct bh_edge_verdict
unproved(const struct bh_policy *policy)
{
    if (policy->auth == BH_AUTH_APP) {
        return (struct bh_edge_verdict){
            .sub = BH_STR("app"), .scope = policy->app_scope, .until_s = INT64_MAX};
    }
    return (struct bh_edge_verdict){
        .sub = BH_STR("anonymous"), .scope = BH_STR("anonymous"), .until_s = INT64_MAX};
}

/* An entry for a credential that this worker does not know. */
static enum bh_code
admit(ngx_http_request_t *r, struct bh_edge_ctx *ctx, struct bh_str credential,
    struct entry **ret_entry, const char **ret_reason)
{
    struct bh_edge_verdict verdict = unproved(&ctx->tenant.policy->policy);
    if (credential.len > 0) {
        *ret_entry = recall(ctx, credential);
        if (*ret_entry != NULL) {
            return BH_OK;
        }
        BH_TRY(bh_edge_failures_check(r, ctx, ret_reason));
        BH_TRY(bh_edge_verify(r, ctx, credential, &verdict, ret_reason));
    }
    *ret_entry = insert(ctx, credential, &verdict);
    return *ret_entry == NULL ? BH_E_NO_MEMORY : BH_OK;
}

/* A copy for the request: the entry may be evicted while nginx still reads its body. */
static enum bh_code
hand_out(ngx_http_request_t *r, struct bh_edge_ctx *ctx, const struct entry *entry,
    struct bh_str *ret_token)
{
    const struct bh_edge_verdict *verdict = &entry->verdict;
    char *copy = ngx_pnalloc(
        r->pool, entry->token_len + verdict->sub.len + verdict->scope.len + verdict->roles.len);
    if (copy == NULL) {
        return BH_E_NO_MEMORY;
    }
    *ret_token = put(&copy, (struct bh_str){entry->token, entry->token_len});
    ctx->subject = (ngx_str_t){verdict->sub.len, (u_char *)copy};
    (void)put(&copy, verdict->sub);
    ctx->scope = put(&copy, verdict->scope);
    ctx->roles = put(&copy, verdict->roles);
    return BH_OK;
}

enum bh_code
bh_edge_token(ngx_http_request_t *r, struct bh_edge_ctx *ctx, struct bh_str credential,
    struct bh_str *ret_token, const char **ret_reason)
{
    if (!setup()) {
        return BH_E_NO_MEMORY;
    }
    if (credential.len > BH_EDGE_CREDENTIAL_MAX) {
        *ret_reason = "the credential is too long";
        return BH_E_TOKEN_INVALID;
    }
    struct entry *entry = find(ctx, credential);
    if (entry == NULL) {
        BH_TRY(admit(r, ctx, credential, &entry, ret_reason));
    }
    if (!is_fresh(ctx, entry)) {
        enum bh_code code = mint_and_tell(ctx, entry, ret_reason);
        if (code != BH_OK) {
            drop(entry);
            return code;
        }
    }
    entry->used = true;
    return hand_out(r, ctx, entry, ret_token);
}
