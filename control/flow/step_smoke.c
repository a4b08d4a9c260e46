#include "control/flow/work.h"

#include <stdio.h>
#include <time.h>

#include "core/codec.h"
#include "core/usertoken.h"
#include "engine/edge/smoke.h"

#define REQUEST_TIMEOUT_MS 5000
#define TOKEN_LIFE_S 60

/* The newest epoch whose time has come. */
static const struct bh_key_epoch *
current_epoch(const struct bh_cell_keys *keys, int64_t now_s)
{
    for (size_t i = 0; i < keys->user_count; i++)
        if (keys->users[i].not_before_s <= now_s && now_s < keys->users[i].not_after_s)
            return &keys->users[i];
    return NULL;
}

static enum bh_code
derive(struct bh_work *work, const struct bh_cell_keys *keys, uint32_t key_epoch,
    struct bh_mac **ret_mac, struct bh_error *err)
{
    struct bh_uid uid;
    struct bh_key cell_key;
    struct bh_key key;
    if (!bh_uid_parse(bh_str_of(work->tenant.uid), &uid))
        return bh_fail(err, BH_E_INTERNAL, "the uid of tenant %s is no uid", work->tenant.id);
    BH_TRY(bh_key_cell_user(
        work->config->master, &keys->install, &keys->cell, key_epoch, &cell_key, err));
    enum bh_code code =
        bh_key_tenant_user(&cell_key, &uid, (uint32_t)work->tenant.epoch, &key, err);
    if (code == BH_OK)
        code = bh_mac_new(&key, ret_mac, err);
    bh_wipe(&cell_key, sizeof(cell_key));
    bh_wipe(&key, sizeof(key));
    return code;
}

static enum bh_code
sign(struct bh_work *work, struct bh_mac *mac, const struct bh_cell_keys *keys, uint32_t key_epoch,
    struct bh_buf *token, struct bh_error *err)
{
    char install[BH_UID_TEXT];
    int64_t now_s = (int64_t)time(NULL);
    bh_uid_format(&keys->install, install);
    struct bh_usertoken claims = {
        .kid = {work->lease.no, (uint32_t)work->tenant.epoch, key_epoch},
        .tenant = bh_str_of(work->tenant.id),
        .audience = bh_str_of(install),
        .issuer = BH_STR("bulkhead"),
        .sub = BH_STR("bulkhead-smoke"),
        .iat_s = now_s,
        .exp_s = now_s + TOKEN_LIFE_S,
        .nbf_s = now_s,
    };
    return bh_usertoken_sign(mac, &claims, token, err);
}

static enum bh_code
mint(struct bh_work *work, struct bh_buf *token, struct bh_error *err)
{
    struct bh_cell_keys keys;
    struct bh_mac *mac;
    BH_TRY(bh_cell_keys_get(work->db, &work->memory.arena, work->tenant.cell, &keys, err));
    const struct bh_key_epoch *epoch = current_epoch(&keys, (int64_t)time(NULL));
    if (!epoch)
        return bh_fail(
            err, BH_E_CONFIG, "cell %s has no user key that is valid now", work->tenant.cell);
    BH_TRY(derive(work, &keys, (uint32_t)epoch->epoch, &mac, err));
    enum bh_code code = sign(work, mac, &keys, (uint32_t)epoch->epoch, token, err);
    bh_mac_free(mac);
    return code;
}

/* What the tenant's policy lets a visitor and a user of the platform see. */
struct access {
    bool closed;  /* in maintenance: nobody gets in */
    bool guarded; /* who gets in is more than the platform's tokens */
};

static enum bh_code
read_access(struct bh_work *work, struct access *ret_access, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(work->db, &r, err,
        "SELECT p.edge ? 'maintenance', p.edge ?| '{auth,routes,unlisted,user_tokens,limits}'"
        " FROM tenant t JOIN tier r ON r.name = t.tier"
        " CROSS JOIN LATERAL (SELECT r.edge || t.edge AS edge) p WHERE t.no = $1",
        bh_number(work->lease.no).text));
    *ret_access = (struct access){.closed = PQntuples(r) == 1 && PQgetvalue(r, 0, 0)[0] == 't',
        .guarded = PQntuples(r) == 1 && PQgetvalue(r, 0, 1)[0] == 't'};
    PQclear(r);
    return BH_OK;
}

enum bh_code
bh_step_smoke(struct bh_work *work, struct bh_error *err)
{
    struct access access;
    char storage[BH_USERTOKEN_MAX];
    char host[512];
    struct bh_buf token;
    bh_buf_init(&token, storage, sizeof(storage));
    BH_TRY(bh_work_tenant(work, err));
    BH_TRY(read_access(work, &access, err));
    if (access.closed)
        return BH_OK;
    BH_TRY(mint(work, &token, err));
    snprintf(host, sizeof(host), "%s.%s", work->tenant.id, work->config->base_domain);
    struct bh_smoke smoke = {
        work->config->edge_url, host, token.data, REQUEST_TIMEOUT_MS, access.guarded};
    enum bh_code code = bh_smoke_run(&smoke, err);
    bh_wipe(storage, sizeof(storage));
    return code;
}
