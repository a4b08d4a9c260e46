#include "control/registry/registry.h"

#include <string.h>

#include "control/registry/change.h"

#define MAX(array) (sizeof(array) / sizeof((array)[0]))

static bool
read_uid(const PGresult *r, int row, int column, struct bh_uid *ret_uid)
{
    return bh_uid_parse(bh_str_of(PQgetvalue(r, row, column)), ret_uid);
}

static enum bh_code
read_uids(struct bh_db *db, const char *cell, struct bh_cell_keys *keys, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT i.uid, c.uid FROM install i CROSS JOIN cell c WHERE c.name = $1", cell));
    bool good =
        PQntuples(r) == 1 && read_uid(r, 0, 0, &keys->install) && read_uid(r, 0, 1, &keys->cell);
    PQclear(r);
    if (!good)
        return bh_fail(err, BH_E_NOT_FOUND, "there is no cell %s", cell);
    return BH_OK;
}

/* Epochs of one owner that can still count, newest first. */
static enum bh_code
read_epochs(struct bh_db *db, const char *prefix, const char *name, struct bh_key_epoch *ret_keys,
    size_t max, size_t *ret_count, struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(db, &r, err,
        "SELECT epoch, extract(epoch from not_before)::bigint,"
        " extract(epoch from not_after)::bigint FROM key_epoch"
        " WHERE owner = $1 || ':' || $2 AND not_after > clock_timestamp()"
        " ORDER BY epoch DESC LIMIT $3",
        prefix, name, bh_number((int64_t)max).text));
    *ret_count = (size_t)PQntuples(r);
    for (int i = 0; i < PQntuples(r); i++)
        ret_keys[i] = (struct bh_key_epoch){
            (int32_t)bh_db_int(r, i, 0), bh_db_int(r, i, 1), bh_db_int(r, i, 2)};
    PQclear(r);
    return BH_OK;
}

static enum bh_code
read_servers(struct bh_db *db, struct bh_arena *arena, const char *cell, struct bh_cell_keys *keys,
    struct bh_error *err)
{
    PGresult *r;
    BH_TRY(
        bh_db_run(db, &r, err, "SELECT name, uid FROM server WHERE cell = $1 ORDER BY name", cell));
    size_t count = (size_t)PQntuples(r);
    enum bh_code code = BH_OK;
    if (count > MAX(keys->servers))
        code = bh_fail(
            err, BH_E_INTERNAL, "cell %s has more than %zu servers", cell, MAX(keys->servers));
    for (size_t i = 0; code == BH_OK && i < count; i++) {
        keys->servers[i].name = bh_db_text(r, (int)i, 0, arena);
        if (!keys->servers[i].name || !read_uid(r, (int)i, 1, &keys->servers[i].uid))
            code = bh_fail(err, BH_E_NO_MEMORY, "no memory for the servers of a cell");
    }
    PQclear(r);
    BH_TRY(code);
    keys->server_count = count;
    return BH_OK;
}

enum bh_code
bh_cell_keys_get(struct bh_db *db, struct bh_arena *arena, const char *cell,
    struct bh_cell_keys *ret_keys, struct bh_error *err)
{
    memset(ret_keys, 0, sizeof(*ret_keys));
    BH_TRY(read_uids(db, cell, ret_keys, err));
    BH_TRY(read_epochs(
        db, "cell", cell, ret_keys->users, MAX(ret_keys->users), &ret_keys->user_count, err));
    BH_TRY(read_servers(db, arena, cell, ret_keys, err));
    for (size_t i = 0; i < ret_keys->server_count; i++)
        BH_TRY(read_epochs(db, "server", ret_keys->servers[i].name, ret_keys->servers[i].keys,
            MAX(ret_keys->servers[i].keys), &ret_keys->servers[i].key_count, err));
    return BH_OK;
}
