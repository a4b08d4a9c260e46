/* PUT /v1/agents/{id}: an agent says what it has applied; flows wait for that. */
#include <inttypes.h>
#include <string.h>

#include "control/api/api.h"

struct ack {
    struct bh_str incarnation;
    int64_t seq;
    int64_t key_epoch;
    const struct bh_json *in_flight;
};

static enum bh_code
check_uid(struct bh_str text, struct bh_error *err)
{
    struct bh_uid uid;

    if (bh_uid_parse(text, &uid))
        return BH_OK;
    return bh_fail(err, BH_E_INVALID, "must be a UUID");
}

static const struct bh_field applied_rows[] = {
    {.name = "incarnation",
        .kind = BH_FIELD_STRING,
        .required = true,
        .max = BH_BODY_MAX,
        .offset = offsetof(struct ack, incarnation),
        .rule = check_uid},
    {.name = "seq",
        .kind = BH_FIELD_INT,
        .required = true,
        .max = INT64_MAX,
        .offset = offsetof(struct ack, seq)},
};
static const struct bh_fields applied_fields = {
    applied_rows, sizeof(applied_rows) / sizeof(applied_rows[0])};

static const struct bh_field rows[] = {
    {.name = "applied", .kind = BH_FIELD_OBJECT, .required = true, .fields = &applied_fields},
    {.name = "key_epoch",
        .kind = BH_FIELD_INT,
        .required = true,
        .max = INT32_MAX,
        .offset = offsetof(struct ack, key_epoch)},
    {.name = "in_flight", .kind = BH_FIELD_TREE, .offset = offsetof(struct ack, in_flight)},
};
static const struct bh_fields fields = {rows, sizeof(rows) / sizeof(rows[0])};

/* Nobody can have applied what does not exist: flows would take it for done. */
static enum bh_code
check_head(struct bh_request *request, const struct ack *ack, struct bh_error *err)
{
    char incarnation[BH_UID_TEXT];
    int64_t head;

    BH_TRY(bh_feed_head(request->db, incarnation, &head, err));
    if (bh_str_is(ack->incarnation, incarnation) && ack->seq > head)
        return bh_fail_at(
            err, BH_E_INVALID, "/applied/seq", "lies beyond the head of the feed, %" PRId64, head);
    return BH_OK;
}

BH_HANDLER(bh_agents_put)
{
    struct ack ack = {0};

    BH_TRY(bh_body_read(request, &fields, &ack, err));
    BH_TRY(check_head(request, &ack, err));
    BH_TRY(bh_agent_ack(request->db, request->principal.id, request->principal.cell,
        bh_text(request, ack.incarnation), ack.seq, (int32_t)ack.key_epoch, err));
    reply->status = 204;
    return BH_OK;
}
