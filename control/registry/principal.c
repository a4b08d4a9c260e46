#include "control/registry/registry.h"

#include "control/registry/change.h"
#include "core/buf.h"

#define HASH_TEXT 67 /* "\x", 64 digits, NUL */

/* bytea as a parameter in text form. */
static void
hash_text(const uint8_t token_sha256[32], char ret_text[HASH_TEXT])
{
    struct bh_buf text;
    bh_buf_init(&text, ret_text, HASH_TEXT);
    bh_buf_puts(&text, "\\x");
    bh_buf_hex(&text, token_sha256, 32);
}

enum bh_code
bh_principal_find(struct bh_db *db, struct bh_arena *arena, const uint8_t token_sha256[32],
    struct bh_principal *ret_principal, struct bh_error *err)
{
    char hash[HASH_TEXT];
    PGresult *result;
    hash_text(token_sha256, hash);
    BH_TRY(bh_db_run(db, &result, err,
        "SELECT id, kind, cell FROM principal WHERE token_hash = $1::bytea", hash));
    bool found = PQntuples(result) == 1;
    if (found)
        *ret_principal = (struct bh_principal){
            .id = bh_db_text(result, 0, 0, arena),
            .kind = bh_db_text(result, 0, 1, arena),
            .cell = bh_db_text(result, 0, 2, arena),
        };
    bool lost = found && bh_db_null(result, 0, 2) != (ret_principal->cell == NULL);
    PQclear(result);
    if (!found) {
        bh_fail(err, BH_E_UNAUTHENTICATED, "the credential is not known here");
        return bh_hint(err, "send Authorization: Bearer with the text of $STATE/operator.token");
    }
    if (!ret_principal->id || !ret_principal->kind || lost)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for a principal");
    return BH_OK;
}

enum bh_code
bh_principal_ensure(struct bh_db *db, const char *id, const char *kind, const char *cell,
    const uint8_t token_sha256[32], struct bh_error *err)
{
    char hash[HASH_TEXT];
    hash_text(token_sha256, hash);
    return bh_db_run(db, NULL, err,
        "INSERT INTO principal (id, kind, cell, token_hash) VALUES ($1, $2, $3, $4::bytea)"
        " ON CONFLICT (id) DO UPDATE SET kind = excluded.kind, cell = excluded.cell,"
        "  token_hash = excluded.token_hash",
        id, kind, cell, hash);
}
