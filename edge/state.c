/* What a worker opens, once, and how it gets by while something is missing. */
#include "edge/edge.h"

#include <openssl/rand.h>

#include "core/buf.h"
#include "core/codec.h"
#include "snapshot/counters.h"

#define RETRY_MS 200        /* between two attempts to open what is missing */
#define REPLACED_MS 1000    /* between two looks whether the snapshot was taken away */
#define NAMES_MAX (1 << 24) /* numbers above this are no interned names */

struct bh_edge_state bh_edge;

/* Names by number; numbers are dense and names are never changed, so they are kept for good. */
struct names {
    struct bh_str *texts;
    size_t count;
};

static struct names names[BH_NAME_KIND_COUNT];
static ngx_msec_t next_try;
static ngx_msec_t next_load; /* of a keyring that could not be read when it changed */
static ngx_msec_t next_look;
static bool tried;
static enum bh_code told; /* what was logged last */

void *
bh_edge_keep(size_t size)
{
    return calloc(1, size); /* unlike ngx_calloc() it touches no page of a large table */
}

static bool
grow(struct names *table, size_t want)
{
    size_t count = table->count == 0 ? 64 : table->count;
    while (count <= want) {
        count *= 2;
    }
    struct bh_str *texts = bh_edge_keep(count * sizeof(*texts));
    if (texts == NULL) {
        return false;
    }
    if (table->count > 0) {
        memcpy(texts, table->texts, table->count * sizeof(*texts));
    }
    ngx_free(table->texts);
    table->texts = texts;
    table->count = count;
    return true;
}

struct bh_str
bh_edge_name(enum bh_name_kind kind, uint32_t number)
{
    struct names *table = &names[kind];
    if (number < table->count && table->texts[number].data != NULL) {
        return table->texts[number];
    }
    struct bh_str text = bh_snapshot_name(bh_edge.snapshot, kind, number);
    if (text.len == 0 || number >= NAMES_MAX || (number >= table->count && !grow(table, number))) {
        return BH_STR("");
    }
    char *copy = bh_edge_keep(text.len);
    if (copy == NULL) {
        return BH_STR("");
    }
    memcpy(copy, text.data, text.len);
    table->texts[number] = (struct bh_str){copy, text.len};
    return table->texts[number];
}

/* Randomness in blocks: one call of the generator for many requests. */
bool
bh_edge_random(uint8_t *data, size_t len)
{
    static uint8_t pool[4096];
    static size_t left;
    static ngx_pid_t owner; /* a pool must never survive a fork */
    if (left < len || owner != ngx_pid) {
        if (RAND_bytes(pool, sizeof(pool)) != 1) {
            return false;
        }
        left = sizeof(pool);
        owner = ngx_pid;
    }
    left -= len;
    memcpy(data, pool + left, len);
    memset(pool + left, 0, len);
    return true;
}

static enum bh_code
open_snapshot(struct bh_edge_main *conf, struct bh_error *err)
{
    if (bh_edge.snapshot != NULL) {
        return BH_OK;
    }
    bh_edge.txn = 0;
    bh_edge.generation++;
    return bh_snapshot_open((const char *)conf->snapshot.data, &bh_edge.snapshot, err);
}

/* Equal in all workers that read the same keys. */
static uint64_t
print_of(const struct bh_keyring *keyring)
{
    uint64_t print = 0;
    char *text = bh_edge_keep(BH_KEYRING_FILE_MAX);
    if (text != NULL) {
        struct bh_buf out;
        bh_buf_init(&out, text, BH_KEYRING_FILE_MAX);
        bh_keyring_format(keyring, &out);
        print = bh_edge_print(bh_buf_str(&out));
        bh_wipe(text, BH_KEYRING_FILE_MAX);
        ngx_free(text);
    }
    return print;
}

static enum bh_code
load_keyring(struct bh_edge_main *conf, uint64_t seen, struct bh_error *err)
{
    struct bh_keyring *fresh = bh_edge_keep(sizeof(*fresh));
    if (fresh == NULL) {
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for the keyring");
    }
    enum bh_code code = bh_keyring_load((const char *)conf->keyring.data, fresh, err);
    if (code == BH_OK && bh_edge.mac == NULL) {
        code = bh_mac_new(&fresh->users[0].key, &bh_edge.mac, err);
    }
    struct bh_keyring *unused = fresh;
    if (code == BH_OK) {
        unused = bh_edge.keyring;
        bh_edge.keyring = fresh;
        bh_edge.keyring_seen = seen;
        bh_edge.keyring_generation++;
        bh_edge.keyring_print = print_of(fresh);
        bh_uid_format(&fresh->install, bh_edge.install);
    }
    if (unused != NULL) {
        bh_wipe(unused, sizeof(*unused));
        ngx_free(unused);
    }
    return code;
}

static enum bh_code
open_keyring(struct bh_edge_main *conf, struct bh_error *err)
{
    if (bh_edge.keyring != NULL) {
        return BH_OK;
    }
    struct bh_snapshot_meta meta;
    BH_TRY(bh_snapshot_begin(bh_edge.snapshot, err));
    bh_snapshot_meta(bh_edge.snapshot, &meta);
    bh_snapshot_end(bh_edge.snapshot);
    return load_keyring(conf, meta.keyring, err);
}

static enum bh_code
open_counters(struct bh_edge_main *conf, struct bh_error *err)
{
    if (bh_edge.counters != NULL) {
        return BH_OK;
    }
    return bh_counters_open((const char *)conf->counters.data, true, &bh_edge.counters, err);
}

static enum bh_code
open_all(struct bh_edge_main *conf, struct bh_error *err)
{
    BH_TRY(open_counters(conf, err));
    BH_TRY(bh_edge_inflight_open(conf, err));
    BH_TRY(open_snapshot(conf, err));
    return open_keyring(conf, err);
}

/* The agent began anew in another file: whatever is known by number is void. */
static void
drop_snapshot(ngx_log_t *log)
{
    ngx_log_error(NGX_LOG_NOTICE, log, 0, "bulkhead: the snapshot was replaced, opening it again");
    bh_snapshot_close(bh_edge.snapshot);
    bh_edge.snapshot = NULL;
    bh_edge_tokens_wipe();
    /* Requests in flight still point into the old names: they are not freed.  It happens by hand.
     */
    ngx_memzero(names, sizeof(names));
    next_try = ngx_current_msec;
}

/* Requests in flight still point into it: it stays mapped. */
static void
drop_inflight(void)
{
    bh_inflight_close(bh_edge.inflight, false);
    bh_edge.inflight = NULL;
    next_try = ngx_current_msec;
}

/* Requests in flight still count into the old file: it stays mapped.  It is address space only. */
static void
drop_counters(ngx_log_t *log)
{
    ngx_log_error(
        NGX_LOG_WARN, log, 0, "bulkhead: the counters file was replaced, opening it again");
    bh_edge.counters = NULL;
    drop_inflight();
}

static bool
complete(void)
{
    return bh_edge.snapshot != NULL && bh_edge.keyring != NULL && bh_edge.counters != NULL &&
           bh_edge.inflight != NULL;
}

/* Once for each kind of trouble, not five times a second. */
static void
tell(enum bh_code code, const struct bh_error *err, ngx_log_t *log)
{
    if (code == told) {
        return;
    }
    told = code;
    ngx_uint_t level = NGX_LOG_ERR;
    const char *text = err->detail;
    if (code == BH_OK) {
        level = NGX_LOG_NOTICE;
        text = "ready";
    }
    ngx_log_error(level, log, 0, "bulkhead: %s", text);
}

static const char *
missing(void)
{
    return bh_edge.counters == NULL || bh_edge.inflight == NULL
               ? "the edge cannot open its counters file yet"
           : bh_edge.snapshot == NULL ? "the edge has no snapshot of the tenants yet"
                                      : "the edge has no keyring yet";
}

bool
bh_edge_ready(struct bh_edge_main *conf, ngx_log_t *log, const char **ret_reason)
{
    if (complete() && (ngx_msec_int_t)(ngx_current_msec - next_look) >= 0) {
        next_look = ngx_current_msec + REPLACED_MS;
        if (bh_snapshot_replaced(bh_edge.snapshot)) {
            drop_snapshot(log);
        }
        if (bh_counters_replaced(bh_edge.counters, (const char *)conf->counters.data)) {
            drop_counters(log);
        } else if (bh_inflight_replaced(bh_edge.inflight, (const char *)conf->counters.data)) {
            drop_inflight();
        }
    }
    if (complete()) {
        return true;
    }
    if (!tried || (ngx_msec_int_t)(ngx_current_msec - next_try) >= 0) {
        tried = true;
        next_try = ngx_current_msec + RETRY_MS;
        struct bh_error err = {.code = BH_OK};
        enum bh_code code = open_all(conf, &err);
        tell(code, &err, log);
    }
    *ret_reason = missing();
    return complete();
}

/*
 * A registry that was restored counts on from an earlier time: what was known under a version may
 * be another thing under that version now.
 */
static void
look_at_feed(const struct bh_snapshot_meta *meta)
{
    static struct bh_uid incarnation;
    if (ngx_memcmp(&incarnation, &meta->incarnation, sizeof(incarnation)) != 0) {
        incarnation = meta->incarnation;
        bh_edge.generation++;
    }
}

void
bh_edge_look(struct bh_edge_main *conf, ngx_log_t *log)
{
    uint64_t txn = bh_snapshot_txn(bh_edge.snapshot);
    if (txn == bh_edge.txn && bh_edge.keyring != NULL) {
        return;
    }
    struct bh_snapshot_meta meta;
    bh_snapshot_meta(bh_edge.snapshot, &meta);
    look_at_feed(&meta);
    if (meta.keyring == bh_edge.keyring_seen) {
        bh_edge.txn = txn;
        return;
    }
    if (next_load != 0 && (ngx_msec_int_t)(ngx_current_msec - next_load) < 0) {
        return;
    }
    struct bh_error err;
    if (load_keyring(conf, meta.keyring, &err) == BH_OK) {
        bh_edge.txn = txn;
        next_load = 0;
        return;
    }
    if (next_load == 0) {
        ngx_log_error(NGX_LOG_ERR, log, 0, "bulkhead: keeps the keyring it has: %s", err.detail);
    }
    next_load = ngx_current_msec + RETRY_MS;
}

void
bh_edge_state_close(void)
{
    bh_snapshot_close(bh_edge.snapshot);
    bh_inflight_close(bh_edge.inflight, true);
    bh_counters_close(bh_edge.counters);
    bh_mac_free(bh_edge.mac);
    if (bh_edge.keyring != NULL) {
        bh_wipe(bh_edge.keyring, sizeof(*bh_edge.keyring));
        ngx_free(bh_edge.keyring);
    }
    ngx_memzero(&bh_edge, sizeof(bh_edge));
}
