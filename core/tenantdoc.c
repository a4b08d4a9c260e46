#include "core/tenantdoc.h"

#include <stdio.h>

#include "core/endpoint.h"
#include "core/host.h"
#include "core/policy.h"
#include "core/tenant.h"

static enum bh_code
check_id(struct bh_str text, struct bh_error *err)
{
    return bh_tenant_id_check(text, err);
}

enum bh_code
bh_tier_name_check(struct bh_str name, struct bh_error *err)
{
    bool ok = name.len >= 1 && name.len <= BH_TIER_NAME_MAX;
    bool numbered = name.len >= 2 && name.data[0] == 't';
    for (size_t i = 0; ok && i < name.len; i++) {
        char c = name.data[i];
        bool digit = c >= '0' && c <= '9';
        ok = (c >= 'a' && c <= 'z') || (i > 0 && (digit || c == '-' || c == '_'));
        numbered = numbered && (i == 0 || digit);
    }
    if (ok && !numbered)
        return BH_OK;
    return bh_fail(err, BH_E_INVALID,
        ok ? "must not be t and a number: that is the policy of one tenant"
           : "must be the name of a tier: 1 to 40 of a-z 0-9 - _, a letter first");
}

static enum bh_code
check_endpoint(struct bh_str text, struct bh_error *err)
{
    struct bh_endpoint endpoint;
    return bh_endpoint_parse(text, &endpoint, err);
}

/* A name is shown in terminals, logs and pages: no control characters (C0, DEL, C1). */
static enum bh_code
check_text(struct bh_str text, struct bh_error *err)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.data[i];
        bool c1 = c == 0xc2 && i + 1 < text.len && (unsigned char)text.data[i + 1] < 0xa0;
        if (c < 0x20 || c == 0x7f || c1)
            return bh_fail(err, BH_E_INVALID, "must not contain control characters");
    }
    if (!bh_utf8_valid(text))
        return bh_fail(err, BH_E_INVALID, "must be UTF-8");
    return BH_OK;
}

static enum bh_code
check_tier_kind(struct bh_str text, struct bh_error *err)
{
    return bh_str_is(text, "tier") ? BH_OK : bh_fail(err, BH_E_INVALID, "must be tier");
}

#define ROW(member, text, type, least, most, check)                                                \
    {.name = (text),                                                                               \
        .kind = BH_FIELD_##type,                                                                   \
        .min = (least),                                                                            \
        .max = (most),                                                                             \
        .offset = offsetof(struct bh_tenant_doc, member),                                          \
        .rule = (check)},

static const struct bh_field limit_rows[] = {
#define BH_TENANT_LIMIT ROW
#include "core/tbl/tenant_fields.def"
#undef BH_TENANT_LIMIT
};
static const struct bh_fields limit_fields = {
    limit_rows, sizeof(limit_rows) / sizeof(limit_rows[0])};

static const struct bh_field rows[] = {
#define BH_TENANT_FIELD ROW
#define BH_TENANT_READ_ONLY(text) {.name = (text), .kind = BH_FIELD_IGNORED},
#include "core/tbl/tenant_fields.def"
#undef BH_TENANT_FIELD
#undef BH_TENANT_READ_ONLY
    {.name = "limits", .kind = BH_FIELD_OBJECT, .fields = &limit_fields},
};
static const struct bh_fields fields = {rows, sizeof(rows) / sizeof(rows[0])};

static const struct bh_field tier_rows[] = {
    {.name = "kind", .kind = BH_FIELD_STRING, .max = BH_TENANT_DOC_MAX, .rule = check_tier_kind},
    {.name = "name",
        .kind = BH_FIELD_STRING,
        .max = BH_TENANT_DOC_MAX,
        .offset = offsetof(struct bh_tier_doc, name),
        .rule = bh_tier_name_check},
    {.name = "edge", .kind = BH_FIELD_TREE, .offset = offsetof(struct bh_tier_doc, edge)},
    {.name = "generation", .kind = BH_FIELD_IGNORED},
    {.name = "etag", .kind = BH_FIELD_IGNORED},
    {.name = "created_at", .kind = BH_FIELD_IGNORED},
    {.name = "updated_at", .kind = BH_FIELD_IGNORED},
};
static const struct bh_fields tier_fields = {tier_rows, sizeof(tier_rows) / sizeof(tier_rows[0])};

/* The member by which a document is known, and what it may be. */
struct key {
    const char *name;
    const char *pointer;
    const char *mismatch;
    enum bh_code (*check)(struct bh_str text, struct bh_error *err);
};
static const struct key tenant_key = {"id", "/id", "must be the id in the path", check_id};
static const struct key tier_key = {
    "name", "/name", "must be the name in the path", bh_tier_name_check};

/* The path's key counts; a body may repeat it.  One issue about it is enough. */
static void
check_path_key(const struct key *key, const struct bh_json *value, struct bh_str path,
    struct bh_issues *issues)
{
    const struct bh_json *member = bh_json_get(value, key->name);
    struct bh_error err;

    for (const struct bh_issue *issue = issues->first; issue != NULL; issue = issue->next)
        if (issue->at == member && member != NULL)
            return;
    if (key->check(path, &err) != BH_OK)
        (void)bh_issues_add(issues, BH_ISSUE_VALUE, member, key->pointer, err.detail);
    else if (member != NULL && !bh_str_eq(member->text, path))
        (void)bh_issues_add(issues, BH_ISSUE_VALUE, member, key->pointer, key->mismatch);
}

/* Of a request, whose path holds it, or of a file, which must state it: the key. */
static void
take_key(const struct key *key, const struct bh_json *value, struct bh_str path,
    struct bh_issues *issues, struct bh_str *member)
{
    if (path.data != NULL) {
        check_path_key(key, value, path, issues);
        *member = path;
    } else if (value->kind == BH_JSON_OBJECT && bh_json_get(value, key->name) == NULL) {
        (void)bh_issues_add(issues, BH_ISSUE_MISSING, NULL, key->pointer, "is required");
    }
}

static void
check_domains(const struct bh_json *domains, struct bh_issues *issues)
{
    char pointer[32];
    size_t index = 0;
    for (const struct bh_json *item = domains == NULL ? NULL : domains->first; item != NULL;
         item = item->next, index++) {
        const struct bh_json *other = domains->first;
        while (other != item && !bh_str_eq(other->text, item->text))
            other = other->next;
        if (other == item || item->kind != BH_JSON_STRING)
            continue;
        (void)snprintf(pointer, sizeof(pointer), "/domains/%zu", index);
        (void)bh_issues_add(issues, BH_ISSUE_VALUE, item, pointer, "stands here twice");
    }
}

void
bh_tenant_doc_read(const struct bh_json *value, struct bh_str path_id, struct bh_issues *issues,
    struct bh_tenant_doc *ret_doc)
{
    *ret_doc = (struct bh_tenant_doc){
        .tier = BH_STR(BH_TENANT_TIER), .rate = BH_TENANT_RATE, .burst = BH_TENANT_BURST};
    bh_fields_read(&fields, value, ret_doc, issues);
    if (ret_doc->edge != NULL)
        bh_policy_read_layer(ret_doc->edge, "/edge", issues->arena, issues);
    check_domains(ret_doc->domains, issues);
    take_key(&tenant_key, value, path_id, issues, &ret_doc->id);
    if (bh_json_get(value, "name") == NULL)
        ret_doc->name = ret_doc->id;
}

void
bh_tier_doc_read(const struct bh_json *value, struct bh_str path_name, struct bh_issues *issues,
    struct bh_tier_doc *ret_doc)
{
    struct bh_policy policy;

    *ret_doc = (struct bh_tier_doc){.name = {"", 0}};
    bh_fields_read(&tier_fields, value, ret_doc, issues);
    if (ret_doc->edge != NULL)
        bh_policy_read(ret_doc->edge, "/edge", issues->arena, issues, &policy);
    take_key(&tier_key, value, path_name, issues, &ret_doc->name);
}

bool
bh_tier_doc_is(const struct bh_json *value)
{
    struct bh_str kind;
    return bh_json_string(value, "kind", &kind) && bh_str_is(kind, "tier");
}
