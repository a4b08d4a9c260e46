#include "core/tenantdoc.h"

#include "core/tenant.h"

static const char *const tiers[] = {BH_TENANT_TIER};

bool
bh_tenant_tier_known(struct bh_str tier)
{
    for (size_t i = 0; i < sizeof(tiers) / sizeof(tiers[0]); i++)
        if (bh_str_is(tier, tiers[i]))
            return true;
    return false;
}

static enum bh_code
check_id(struct bh_str text, struct bh_error *err)
{
    return bh_tenant_id_check(text, err);
}

static enum bh_code
check_tier(struct bh_str text, struct bh_error *err)
{
    if (bh_tenant_tier_known(text))
        return BH_OK;
    return bh_fail(err, BH_E_INVALID, "is no tier; known: %s", tiers[0]);
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

/* The path's id counts; a body may repeat it.  One issue at /id is enough. */
static void
check_path_id(const struct bh_json *value, struct bh_str path_id, struct bh_issues *issues,
    struct bh_tenant_doc *doc)
{
    const struct bh_json *id = bh_json_get(value, "id");
    struct bh_error err;

    for (const struct bh_issue *issue = issues->first; issue != NULL; issue = issue->next)
        if (issue->at == id && id != NULL)
            return;
    if (bh_tenant_id_check(path_id, &err) != BH_OK)
        (void)bh_issues_add(issues, BH_ISSUE_VALUE, id, "/id", err.detail);
    else if (id != NULL && !bh_str_eq(id->text, path_id))
        (void)bh_issues_add(issues, BH_ISSUE_VALUE, id, "/id", "must be the id in the path");
    doc->id = path_id;
}

void
bh_tenant_doc_read(const struct bh_json *value, struct bh_str path_id, struct bh_issues *issues,
    struct bh_tenant_doc *ret_doc)
{
    *ret_doc = (struct bh_tenant_doc){
        .tier = BH_STR(BH_TENANT_TIER), .rate = BH_TENANT_RATE, .burst = BH_TENANT_BURST};
    bh_fields_read(&fields, value, ret_doc, issues);
    if (path_id.data != NULL)
        check_path_id(value, path_id, issues, ret_doc);
    else if (value->kind == BH_JSON_OBJECT && bh_json_get(value, "id") == NULL)
        (void)bh_issues_add(issues, BH_ISSUE_MISSING, NULL, "/id", "is required");
    if (bh_json_get(value, "name") == NULL)
        ret_doc->name = ret_doc->id;
}
