/*
 * Keys of this cell: fetched at the start, after every loss of the feed, every
 * 60 s and on SIGHUP.  The edge reads the keyring file when the snapshot's
 * keyring number rises; a PostgreSQL server re-reads its rows on SIGHUP.
 */
#include "agent/keyring.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/file.h"
#include "agent/http.h"
#include "agent/log.h"
#include "agent/node.h"
#include "core/codec.h"
#include "core/json.h"

#define EVERY_US INT64_C(60000000)
#define RETRY_MS 500
#define KEY_FILE_MAX 1024

static enum bh_code
wrong(struct bh_error *err, const char *name)
{
    return bh_fail(err, BH_E_INVALID, "keyring: member %s is missing or wrong", name);
}

static bool
get_key(const struct bh_json *object, const char *name, struct bh_key *ret_key)
{
    const struct bh_json *key = bh_json_get(object, name);
    return key && key->kind == BH_JSON_STRING &&
           bh_hex_decode(key->text, ret_key->bytes, sizeof(ret_key->bytes));
}

static bool
get_times(const struct bh_json *object, int64_t *ret_before, int64_t *ret_after)
{
    return bh_json_int(bh_json_get(object, "not_before"), ret_before) && *ret_before >= 0 &&
           bh_json_int(bh_json_get(object, "not_after"), ret_after) && *ret_after >= *ret_before;
}

/* Names and kids become words of a text file: nothing in them may end the word. */
static bool
get_word(const struct bh_json *object, const char *name, char *ret_text, size_t size)
{
    const struct bh_json *member = bh_json_get(object, name);
    if (!member || member->kind != BH_JSON_STRING || member->text.len == 0 ||
        member->text.len >= size)
        return false;
    for (size_t i = 0; i < member->text.len; i++)
        if (member->text.data[i] <= ' ' || member->text.data[i] > '~')
            return false;
    memcpy(ret_text, member->text.data, member->text.len);
    ret_text[member->text.len] = '\0';
    return true;
}

static bool
get_uid(const struct bh_json *object, const char *name, struct bh_uid *ret_uid)
{
    const struct bh_json *member = bh_json_get(object, name);
    return member && member->kind == BH_JSON_STRING && bh_uid_parse(member->text, ret_uid);
}

static enum bh_code
read_users(const struct bh_json *list, struct bh_keyring *keyring, struct bh_error *err)
{
    for (const struct bh_json *item = list->first; item; item = item->next) {
        int64_t epoch;
        size_t i = keyring->user_count;
        if (i == BH_KEYRING_USERS_MAX || !bh_json_int(bh_json_get(item, "epoch"), &epoch) ||
            epoch < 0 || epoch > UINT32_MAX || !get_key(item, "key", &keyring->users[i].key) ||
            !get_times(item, &keyring->users[i].not_before_s, &keyring->users[i].not_after_s))
            return wrong(err, "user_keys");
        keyring->users[i].epoch = (uint32_t)epoch;
        keyring->user_count++;
    }
    return BH_OK;
}

static enum bh_code
read_rows(
    const struct bh_json *list, struct bh_keyring *keyring, size_t server, struct bh_error *err)
{
    for (const struct bh_json *item = list->first; item; item = item->next) {
        size_t i = keyring->servers[server].row_count;
        struct bh_key_row *row = &keyring->servers[server].rows[i];
        if (i == BH_KEY_ROWS_MAX || !get_word(item, "kid", row->kid, sizeof(row->kid)) ||
            !get_key(item, "key", &row->key) ||
            !get_times(item, &row->not_before_s, &row->not_after_s))
            return wrong(err, "servers/keys");
        keyring->servers[server].row_count++;
    }
    return BH_OK;
}

static enum bh_code
read_servers(const struct bh_json *list, struct bh_keyring *keyring, struct bh_error *err)
{
    for (const struct bh_json *item = list->first; item; item = item->next) {
        size_t i = keyring->server_count;
        const struct bh_json *keys = bh_json_get(item, "keys");
        if (i == BH_KEYRING_SERVERS_MAX ||
            !get_word(item, "name", keyring->servers[i].name, sizeof(keyring->servers[i].name)) ||
            !keys || keys->kind != BH_JSON_ARRAY)
            return wrong(err, "servers");
        keyring->server_count++;
        BH_TRY(read_rows(keys, keyring, i, err));
    }
    return BH_OK;
}

/* The cell's own keys; a control plane of an older version has none. */
static enum bh_code
read_cell_keys(const struct bh_json *root, struct bh_keyring *keyring, struct bh_error *err)
{
    keyring->has_hash = bh_json_get(root, "hash_key") != NULL;
    keyring->has_seal = bh_json_get(root, "seal_key") != NULL;
    if (keyring->has_hash && !get_key(root, "hash_key", &keyring->hash))
        return wrong(err, "hash_key");
    if (keyring->has_seal && !get_key(root, "seal_key", &keyring->seal))
        return wrong(err, "seal_key");
    return BH_OK;
}

enum bh_code
bh_keyring_read(struct bh_str text, struct bh_arena *arena, struct bh_keyring *ret_keyring,
    struct bh_error *err)
{
    memset(ret_keyring, 0, sizeof(*ret_keyring));
    struct bh_json *root;
    BH_TRY(bh_json_parse(text, BH_JSON_DEPTH, arena, &root, err));
    const struct bh_json *users = bh_json_get(root, "user_keys");
    const struct bh_json *servers = bh_json_get(root, "servers");
    if (!get_uid(root, "install", &ret_keyring->install))
        return wrong(err, "install");
    if (!get_uid(root, "cell", &ret_keyring->cell))
        return wrong(err, "cell");
    if (!users || users->kind != BH_JSON_ARRAY)
        return wrong(err, "user_keys");
    if (!servers || servers->kind != BH_JSON_ARRAY)
        return wrong(err, "servers");
    BH_TRY(read_cell_keys(root, ret_keyring, err));
    BH_TRY(read_users(users, ret_keyring, err));
    return read_servers(servers, ret_keyring, err);
}

/* ---- where the keys go ---- */

static void
tell_server(const struct bh_server_keys *server)
{
    struct bh_chunks chunks;
    bh_chunks_init(&chunks);
    struct bh_str text, head, tail;
    uint64_t pid;
    /* No server runs: it will read the file when it starts. */
    if (bh_file_read(server->pid_file, 4096, &chunks.arena, &text, NULL) == BH_OK &&
        bh_str_cut(text, '\n', &head, &tail) && bh_str_uint(head, INT32_MAX, &pid) && pid > 1 &&
        kill((pid_t)pid, SIGHUP) == 0)
        bh_log("keyring: new key rows for server %s", server->name);
    bh_chunks_fini(&chunks);
}

static enum bh_code
store_server(
    const struct bh_keyring *keyring, const struct bh_server_keys *server, struct bh_error *err)
{
    char text[KEY_FILE_MAX];
    struct bh_buf buf;
    bh_buf_init(&buf, text, sizeof(text));
    for (size_t i = 0; i < keyring->server_count; i++) {
        if (strcmp(keyring->servers[i].name, server->name) != 0)
            continue;
        for (size_t j = 0; j < keyring->servers[i].row_count; j++) {
            const struct bh_key_row *row = &keyring->servers[i].rows[j];
            bh_buf_printf(&buf, "%s ", row->kid);
            bh_buf_hex(&buf, row->key.bytes, sizeof(row->key.bytes));
            bh_buf_printf(
                &buf, " %lld %lld\n", (long long)row->not_before_s, (long long)row->not_after_s);
        }
    }
    bool changed = false;
    enum bh_code code = bh_buf_ok(&buf)
                            ? bh_file_put(server->file, bh_buf_str(&buf), 0400, &changed, err)
                            : bh_fail(err, BH_E_TOO_LARGE, "too many key rows");
    bh_wipe(text, sizeof(text));
    if (changed)
        tell_server(server);
    return code;
}

static bool
edge_file_same(const char *path, const struct bh_keyring *keyring)
{
    struct bh_chunks chunks;
    bh_chunks_init(&chunks);
    struct bh_str now;
    struct bh_buf want;
    bh_buf_init_arena(&want, &chunks.arena, BH_KEYRING_FILE_MAX);
    bh_keyring_format(keyring, &want);
    bool same = bh_file_read(path, BH_KEYRING_FILE_MAX, &chunks.arena, &now, NULL) == BH_OK &&
                bh_str_eq(now, bh_buf_str(&want));
    if (want.data)
        bh_wipe(want.data, want.len);
    bh_chunks_fini(&chunks);
    return same;
}

/* The edge looks at the file when this number rises; before the first feed it reads the file
 * anyway. */
static enum bh_code
announce(struct bh_node *node, struct bh_error *err)
{
    static const struct bh_uid none;
    pthread_mutex_lock(&node->writing);
    pthread_mutex_lock(&node->lock);
    node->keyring++;
    struct bh_snapshot_meta meta = node->meta;
    pthread_mutex_unlock(&node->lock);
    enum bh_code code = BH_OK;
    if (memcmp(&meta.incarnation, &none, sizeof(none)) != 0) {
        code = bh_writer_begin(node->writer, err);
        if (code == BH_OK) {
            code = bh_node_commit(node, &meta.incarnation, meta.seq, err);
            if (code != BH_OK)
                bh_writer_abort(node->writer);
        }
    }
    pthread_mutex_unlock(&node->writing);
    return code;
}

/* Servers first: they must know a key before anybody mints with it. */
static enum bh_code
store(struct bh_node *node, const struct bh_keyring *keyring, struct bh_error *err)
{
    for (size_t i = 0; i < node->config.server_count; i++)
        BH_TRY(store_server(keyring, &node->config.servers[i], err));
    if (!edge_file_same(node->config.keyring, keyring)) {
        BH_TRY(bh_keyring_store(node->config.keyring, keyring, err));
        BH_TRY(announce(node, err));
    }
    uint32_t epoch = 0;
    for (size_t i = 0; i < keyring->user_count; i++)
        if (keyring->users[i].epoch > epoch)
            epoch = keyring->users[i].epoch;
    pthread_mutex_lock(&node->lock);
    node->key_epoch = epoch;
    node->keyed = true;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
    return BH_OK;
}

static enum bh_code
fetch(struct bh_node *node, struct bh_http *http, struct bh_error *err)
{
    struct bh_chunks chunks;
    bh_chunks_init(&chunks);
    struct bh_http_call call = {.method = "GET", .path = "/v1/keyring", .arena = &chunks.arena};
    struct bh_keyring keyring;
    enum bh_code code = bh_http_send(http, &call, err);
    if (code == BH_OK && call.status != 200)
        code = bh_fail(err, BH_E_UNAVAILABLE, "the control plane answered %ld", call.status);
    if (code == BH_OK) {
        code = bh_keyring_read(call.answer, &chunks.arena, &keyring, err);
        if (code == BH_OK)
            code = store(node, &keyring, err);
        bh_wipe(&keyring, sizeof(keyring));
        bh_wipe((void *)(uintptr_t)call.answer.data, call.answer.len);
    }
    bh_chunks_fini(&chunks);
    return code;
}

static void
wait_for_need(struct bh_node *node, int64_t until)
{
    pthread_mutex_lock(&node->lock);
    while (!node->fetch_keys && bh_mono_us() < until)
        bh_node_wait(node, (until - bh_mono_us()) / 1000 + 1);
    node->fetch_keys = false;
    pthread_mutex_unlock(&node->lock);
}

void *
bh_keys_thread(void *arg)
{
    struct bh_node *node = arg;
    struct bh_error err;
    struct bh_http *http;
    if (bh_http_new(node->config.url, node->config.token, &http, &err) != BH_OK)
        abort();
    bool failing = false;
    for (;;) {
        err.hint[0] = '\0';
        bool ok = fetch(node, http, &err) == BH_OK;
        if (!ok && !failing)
            bh_log_error("keyring", &err);
        failing = !ok;
        if (ok)
            wait_for_need(node, bh_mono_us() + bh_jitter(EVERY_US));
        else
            nanosleep(&(struct timespec){0, bh_jitter(RETRY_MS * 1000) * 1000}, NULL);
    }
    return NULL;
}
