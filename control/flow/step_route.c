#include "control/flow/work.h"

#include <stdio.h>

#define ACK_TIMEOUT_MS 5000
#define ACK_POLL_MS 250

/* An agent that was not heard of for this long is not waited for; after a day it is not even
 * listed. */
#define LIVE "15 s"
#define KNOWN "1 day"

static const char lagging_sql[] =
    "SELECT string_agg(a.id, ' ' ORDER BY a.id) FROM agent a CROSS JOIN install i"
    " WHERE a.cell = $1 AND a.seen_at > clock_timestamp() - $3::interval"
    " AND (a.incarnation IS DISTINCT FROM i.incarnation OR a.seq < $2)";

/* Append and note are one transaction, conditional on our lease: who is fenced publishes nothing.
 */
static enum bh_code
append(struct bh_work *work, int64_t *ret_seq, struct bh_error *err)
{
    BH_TRY(bh_work_note(work, NULL, err));
    return bh_feed_append(work->db, work->lease.no, ret_seq, err);
}

static enum bh_code
lagging(struct bh_work *work, int64_t seq, const char *seen_within, char ret_names[256],
    struct bh_error *err)
{
    PGresult *r;
    BH_TRY(bh_db_run(
        work->db, &r, err, lagging_sql, work->tenant.cell, bh_number(seq).text, seen_within));
    snprintf(ret_names, 256, "%s", PQgetvalue(r, 0, 0));
    PQclear(r);
    return BH_OK;
}

static enum bh_code
await_acks(struct bh_work *work, int64_t seq, struct bh_error *err)
{
    char names[256];
    int64_t until = bh_now_ms() + ACK_TIMEOUT_MS;
    for (;;) {
        BH_TRY(lagging(work, seq, LIVE, names, err));
        int64_t left = until - bh_now_ms();
        if (!names[0] || left <= 0)
            return BH_OK;
        if (atomic_load(&work->worker->flow->stopping))
            return bh_fail(err, BH_E_UNAVAILABLE, "this daemon stops");
        bh_worker_wait(work->worker, left < ACK_POLL_MS ? (int)left : ACK_POLL_MS);
    }
}

/* The database fence stays the guarantee; an edge that says nothing is listed, not waited for. */
static enum bh_code
list_silent(struct bh_work *work, int64_t seq, struct bh_error *err)
{
    char names[256];
    char note[320];
    BH_TRY(lagging(work, seq, KNOWN, names, err));
    if (!names[0])
        return BH_OK;
    snprintf(note, sizeof(note), "feed %lld not acknowledged by: %s", (long long)seq, names);
    bh_flow_log(work->worker->flow, "operation %s: %s", work->lease.id, note);
    BH_TRY(bh_work_begin(work, err));
    return bh_work_end(work, bh_work_note(work, note, err), err);
}

enum bh_code
bh_step_route(struct bh_work *work, struct bh_error *err)
{
    int64_t seq = 0;
    BH_TRY(bh_work_tenant(work, err));
    BH_TRY(bh_work_begin(work, err));
    BH_TRY(bh_work_end(work, append(work, &seq, err), err));
    BH_TRY(bh_db_run(work->db, NULL, err, "LISTEN bulkhead_ack"));
    enum bh_code code = await_acks(work, seq, err);
    if (code == BH_OK)
        code = list_silent(work, seq, err);
    if (code == BH_OK)
        code = bh_db_run(work->db, NULL, err, "UNLISTEN bulkhead_ack");
    return code;
}
