#include "agent/record.h"

#include "core/buf.h"
#include "core/endpoint.h"
#include "core/json.h"

#define ENDPOINT_MAX 128
#define ENDPOINTS_MAX 64
#define DOMAINS_MAX 64

static enum bh_code
wrong(struct bh_error *err, const char *name, const char *expected)
{
    return bh_fail(err, BH_E_INVALID, "feed: member %s must be %s", name, expected);
}

static enum bh_code
get_uint(const struct bh_json *object, const char *name, uint64_t least, uint64_t most,
    uint64_t *ret_value, struct bh_error *err)
{
    int64_t value;
    if (!bh_json_int(bh_json_get(object, name), &value) || value < 0 || (uint64_t)value < least ||
        (uint64_t)value > most)
        return bh_fail(err, BH_E_INVALID, "feed: member %s must be an integer from %llu to %llu",
            name, (unsigned long long)least, (unsigned long long)most);
    *ret_value = (uint64_t)value;
    return BH_OK;
}

static enum bh_code
get_uint32(const struct bh_json *object, const char *name, uint32_t least, uint32_t most,
    uint32_t *ret_value, struct bh_error *err)
{
    uint64_t value;
    BH_TRY(get_uint(object, name, least, most, &value, err));
    *ret_value = (uint32_t)value;
    return BH_OK;
}

static enum bh_code
get_text(
    const struct bh_json *object, const char *name, struct bh_str *ret_text, struct bh_error *err)
{
    const struct bh_json *member = bh_json_get(object, name);
    if (!member || member->kind != BH_JSON_STRING)
        return wrong(err, name, "a string");
    *ret_text = member->text;
    return BH_OK;
}

/* Names of engines, cells and tiers: they go into tokens and connection strings. */
static enum bh_code
get_name(
    const struct bh_json *object, const char *name, struct bh_str *ret_text, struct bh_error *err)
{
    BH_TRY(get_text(object, name, ret_text, err));
    bool ok = ret_text->len >= 1 && ret_text->len <= 63;
    for (size_t i = 0; ok && i < ret_text->len; i++) {
        char c = ret_text->data[i];
        ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '_' || c == '-' || c == '.';
    }
    return ok ? BH_OK : wrong(err, name, "1 to 63 letters, digits, '_', '-' or '.'");
}

static enum bh_code
get_uid(
    const struct bh_json *object, const char *name, struct bh_uid *ret_uid, struct bh_error *err)
{
    struct bh_str text;
    BH_TRY(get_text(object, name, &text, err));
    return bh_uid_parse(text, ret_uid) ? BH_OK : wrong(err, name, "a UUID");
}

/* The snapshot keeps a set of endpoints as one text, parted by spaces. */
static enum bh_code
get_endpoints(const struct bh_json *object, struct bh_arena *arena, struct bh_str *ret_text,
    struct bh_error *err)
{
    static const char expected[] = "up to 64 endpoints";
    const struct bh_json *list = bh_json_get(object, "endpoints");
    if (!list || list->kind != BH_JSON_ARRAY)
        return wrong(err, "endpoints", "an array");
    struct bh_buf buf;
    bh_buf_init_arena(&buf, arena, BH_ENDPOINTS_MAX * (BH_ENDPOINT_TEXT_MAX + 1) + 1);
    unsigned count = 0;
    for (const struct bh_json *item = list->first; item; item = item->next) {
        struct bh_endpoint endpoint;
        if (item->kind != BH_JSON_STRING || ++count > BH_ENDPOINTS_MAX)
            return wrong(err, "endpoints", expected);
        BH_TRY(bh_endpoint_parse(item->text, &endpoint, err));
        if (buf.len)
            bh_buf_putc(&buf, ' ');
        bh_buf_str_add(&buf, item->text);
    }
    if (!bh_buf_ok(&buf))
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for endpoints");
    *ret_text = bh_buf_str(&buf);
    return BH_OK;
}

/* Optional: a tenant without any has no such member. */
static enum bh_code
get_domains(const struct bh_json *object, struct bh_arena *arena, struct bh_str *ret_text,
    struct bh_error *err)
{
    const struct bh_json *list = bh_json_get(object, "domains");
    struct bh_buf buf;
    unsigned count = 0;
    if (!list)
        return BH_OK;
    if (list->kind != BH_JSON_ARRAY)
        return wrong(err, "domains", "an array");
    bh_buf_init_arena(&buf, arena, DOMAINS_MAX * (BH_DOMAIN_MAX + 1) + 1);
    for (const struct bh_json *item = list->first; item; item = item->next) {
        if (item->kind != BH_JSON_STRING || bh_domain_check(item->text, NULL) != BH_OK ||
            ++count > DOMAINS_MAX)
            return wrong(err, "domains", "up to 64 host names in lower case");
        if (buf.len)
            bh_buf_putc(&buf, ' ');
        bh_buf_str_add(&buf, item->text);
    }
    if (!bh_buf_ok(&buf))
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for domains");
    *ret_text = bh_buf_str(&buf);
    return BH_OK;
}

/* Optional too: without one the tenant has the edge's defaults. */
static enum bh_code
get_policy(const struct bh_json *object, struct bh_str *ret_text, struct bh_error *err)
{
    return bh_json_get(object, "policy") ? get_name(object, "policy", ret_text, err) : BH_OK;
}

static enum bh_code
get_state(const struct bh_json *object, enum bh_tenant_state *ret_state, struct bh_error *err)
{
    struct bh_str text;
    BH_TRY(get_text(object, "state", &text, err));
    return bh_tenant_state_find(text, ret_state) ? BH_OK : wrong(err, "state", "a tenant's state");
}

static enum bh_code
read_record(const struct bh_json *record, struct bh_arena *arena, struct bh_tenant_facts *facts,
    struct bh_error *err)
{
    BH_TRY(get_text(record, "id", &facts->id, err));
    BH_TRY(bh_tenant_id_check(facts->id, err));
    BH_TRY(get_uid(record, "uid", &facts->uid, err));
    BH_TRY(get_uint32(record, "epoch", 0, INT32_MAX, &facts->epoch, err));
    BH_TRY(get_state(record, &facts->state, err));
    BH_TRY(get_uint32(record, "rate", 1, 1000000, &facts->rate, err));
    BH_TRY(get_uint32(record, "burst", 1, 1000000, &facts->burst, err));
    BH_TRY(get_uint32(record, "share", 1, 1000, &facts->share, err));
    BH_TRY(get_name(record, "server", &facts->names[BH_NAME_SERVER], err));
    BH_TRY(get_name(record, "database", &facts->names[BH_NAME_DATABASE], err));
    BH_TRY(get_name(record, "cell", &facts->names[BH_NAME_CELL], err));
    BH_TRY(get_name(record, "tier", &facts->names[BH_NAME_TIER], err));
    BH_TRY(get_policy(record, &facts->names[BH_NAME_POLICY], err));
    BH_TRY(get_domains(record, arena, &facts->domains, err));
    return get_endpoints(record, arena, &facts->names[BH_NAME_ENDPOINTS], err);
}

static enum bh_code
read_row(const struct bh_json *root, const struct bh_json *record, struct bh_arena *arena,
    struct bh_feed_line *line, struct bh_error *err)
{
    uint64_t no;
    BH_TRY(get_uint(root, "no", 1, INT32_MAX, &no, err));
    BH_TRY(get_uint(root, "version", 1, UINT32_MAX, &line->version, err));
    line->no = (int32_t)no;
    if (record->kind == BH_JSON_NULL) {
        line->kind = BH_LINE_TOMBSTONE;
        return BH_OK;
    }
    if (record->kind != BH_JSON_OBJECT)
        return wrong(err, "record", "an object or null");
    line->kind = BH_LINE_RECORD;
    line->facts.no = line->no;
    line->facts.version = (uint32_t)line->version;
    return read_record(record, arena, &line->facts, err);
}

/* Its content is the edge's business: what it cannot use stops one tenant, never the feed. */
static enum bh_code
read_document(const struct bh_json *root, struct bh_feed_line *line, struct bh_error *err)
{
    const struct bh_json *body = bh_json_get(root, "body");
    line->kind = BH_LINE_DOCUMENT;
    BH_TRY(get_uint(root, "version", 1, INT64_MAX, &line->version, err));
    BH_TRY(get_text(root, "document", &line->name, err));
    if (line->name.len == 0 || line->name.len > BH_DOCUMENT_NAME_MAX)
        return wrong(err, "document", "a name of 1 to 255 bytes");
    if (!body || (body->kind != BH_JSON_NULL && body->kind != BH_JSON_STRING) ||
        body->text.len > BH_DOCUMENT_MAX)
        return wrong(err, "body", "a string of at most 64 KiB, or null");
    if (body->kind == BH_JSON_STRING)
        line->body = body->text;
    return BH_OK;
}

static enum bh_code
read_start(const struct bh_json *root, struct bh_feed_line *line, struct bh_error *err)
{
    uint64_t format;
    BH_TRY(get_uint(root, "format", 1, INT32_MAX, &format, err));
    if (format != 1)
        return bh_fail(err, BH_E_CONFIG, "feed: snapshot has format %llu, this agent reads 1",
            (unsigned long long)format);
    line->kind = BH_LINE_START;
    return line->has_incarnation ? BH_OK : wrong(err, "incarnation", "a UUID");
}

enum bh_code
bh_feed_line_parse(
    struct bh_str text, struct bh_arena *arena, struct bh_feed_line *ret_line, struct bh_error *err)
{
    struct bh_json *root;
    struct bh_feed_line line = {.kind = BH_LINE_HEAD};
    BH_TRY(bh_json_parse(text, BH_JSON_DEPTH, arena, &root, err));
    if (root->kind != BH_JSON_OBJECT)
        return bh_fail(err, BH_E_INVALID, "feed: a line must be an object");
    const struct bh_json *record = bh_json_get(root, "record");
    const struct bh_json *incarnation = bh_json_get(root, "incarnation");
    if (incarnation) {
        BH_TRY(get_uid(root, "incarnation", &line.incarnation, err));
        line.has_incarnation = true;
    }
    enum bh_code code = BH_OK;
    if (record)
        code = read_row(root, record, arena, &line, err);
    else if (bh_json_get(root, "document"))
        code = read_document(root, &line, err);
    else if (bh_json_get(root, "format"))
        code = read_start(root, &line, err);
    else
        code = get_uint(root, "head", 0, INT64_MAX, &line.seq, err);
    BH_TRY(code);
    if (line.kind != BH_LINE_HEAD)
        BH_TRY(get_uint(root, "seq", 0, INT64_MAX, &line.seq, err));
    *ret_line = line;
    return BH_OK;
}
