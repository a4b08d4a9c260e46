/* GET /v1/keyring: the keys of the agent's own cell, derived for this one answer. */
#include "control/api/api.h"
#include "control/api/write.h"
#include "core/codec.h"

/* The key in hexadecimal digits; wipes ${key}. */
static void
write_digits(struct bh_writer *w, const char *name, struct bh_key *key)
{
    char hex[2 * BH_KEY_BYTES + 1];
    struct bh_buf text;

    bh_buf_init(&text, hex, sizeof(hex));
    bh_buf_hex(&text, key->bytes, sizeof(key->bytes));
    bh_wipe(key, sizeof(*key));
    bh_write_text(w, name, hex);
    bh_wipe(hex, sizeof(hex));
}

/* One row after its name: the key and when it counts. */
static void
write_key(struct bh_writer *w, struct bh_key *key, const struct bh_key_epoch *epoch)
{
    write_digits(w, "key", key);
    bh_write_int(w, "not_before", epoch->not_before_s);
    bh_write_int(w, "not_after", epoch->not_after_s);
    bh_write_close(w, '}');
}

static enum bh_code
write_cell_keys(struct bh_writer *w, const struct bh_key *master, const struct bh_cell_keys *keys,
    struct bh_error *err)
{
    struct bh_key key;

    BH_TRY(bh_key_cell_hash(master, &keys->install, &keys->cell, &key, err));
    write_digits(w, "hash_key", &key);
    BH_TRY(bh_key_cell_seal(master, &keys->install, &keys->cell, &key, err));
    write_digits(w, "seal_key", &key);
    return BH_OK;
}

static enum bh_code
write_users(struct bh_writer *w, const struct bh_key *master, const struct bh_cell_keys *keys,
    struct bh_error *err)
{
    struct bh_key key;

    bh_write_open(w, "user_keys", '[');
    for (size_t i = 0; i < keys->user_count; i++) {
        BH_TRY(bh_key_cell_user(
            master, &keys->install, &keys->cell, (uint32_t)keys->users[i].epoch, &key, err));
        bh_write_open(w, NULL, '{');
        bh_write_int(w, "epoch", keys->users[i].epoch);
        write_key(w, &key, &keys->users[i]);
    }
    bh_write_close(w, ']');
    return BH_OK;
}

static enum bh_code
write_server_keys(struct bh_writer *w, const struct bh_key *master, const struct bh_cell_keys *keys,
    size_t server, struct bh_error *err)
{
    char kid[BH_KID_MAX];
    struct bh_buf text;
    struct bh_key key;

    bh_write_open(w, "keys", '[');
    for (size_t i = 0; i < keys->servers[server].key_count; i++) {
        const struct bh_key_epoch *epoch = &keys->servers[server].keys[i];
        BH_TRY(bh_key_server(
            master, &keys->install, &keys->servers[server].uid, (uint32_t)epoch->epoch, &key, err));
        bh_buf_init(&text, kid, sizeof(kid));
        bh_buf_printf(&text, "%s.%d", keys->servers[server].name, (int)epoch->epoch);
        bh_write_open(w, NULL, '{');
        bh_write_text(w, "kid", kid);
        write_key(w, &key, epoch);
    }
    bh_write_close(w, ']');
    return BH_OK;
}

static enum bh_code
write_servers(struct bh_writer *w, const struct bh_key *master, const struct bh_cell_keys *keys,
    struct bh_error *err)
{
    char uid[BH_UID_TEXT];

    bh_write_open(w, "servers", '[');
    for (size_t i = 0; i < keys->server_count; i++) {
        bh_uid_format(&keys->servers[i].uid, uid);
        bh_write_open(w, NULL, '{');
        bh_write_text(w, "name", keys->servers[i].name);
        bh_write_text(w, "uid", uid);
        BH_TRY(write_server_keys(w, master, keys, i, err));
        bh_write_close(w, '}');
    }
    bh_write_close(w, ']');
    return BH_OK;
}

BH_HANDLER(bh_keyring_get)
{
    struct bh_cell_keys *keys = bh_arena_zalloc(request->arena, sizeof(*keys));
    struct bh_writer w = {.buf = &reply->body};
    char uid[BH_UID_TEXT];
    char *storage;

    reply->secret = true;
    storage = bh_arena_alloc(request->arena, BH_BODY_MAX);
    if (keys == NULL || storage == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    bh_buf_init(&reply->body, storage, BH_BODY_MAX); /* never moves: one copy to wipe */
    BH_TRY(bh_cell_keys_get(request->db, request->arena, request->principal.cell, keys, err));
    bh_write_open(&w, NULL, '{');
    bh_uid_format(&keys->install, uid);
    bh_write_text(&w, "install", uid);
    bh_uid_format(&keys->cell, uid);
    bh_write_text(&w, "cell", uid);
    BH_TRY(write_cell_keys(&w, request->config->master, keys, err));
    BH_TRY(write_users(&w, request->config->master, keys, err));
    BH_TRY(write_servers(&w, request->config->master, keys, err));
    bh_write_close(&w, '}');
    return BH_OK;
}
