#include "control/registry/change.h"
#include "control/registry/registry.h"

enum bh_code
bh_agent_ack(struct bh_db *db, const char *id, const char *cell, const char *incarnation,
    int64_t seq, int32_t key_epoch, struct bh_error *err)
{
    return bh_db_run(db, NULL, err,
        "WITH ack AS (INSERT INTO agent (id, cell, incarnation, seq, key_epoch)"
        "  VALUES ($1, $2, $3, $4, $5)"
        "  ON CONFLICT (id) DO UPDATE SET cell = excluded.cell,"
        "   incarnation = excluded.incarnation, seq = excluded.seq,"
        "   key_epoch = excluded.key_epoch, seen_at = clock_timestamp() RETURNING id)"
        " SELECT pg_notify('bulkhead_ack', id) FROM ack",
        id, cell, incarnation, bh_number(seq).text, bh_number(key_epoch).text);
}
