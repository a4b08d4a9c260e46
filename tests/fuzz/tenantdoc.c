/*
 * A document of a tenant (and of a tier) that is accepted is within its limits, and says the same
 * when it is written out with all its defaults; one that is refused says where.
 */
#include "tests/fuzz/fuzz.h"

#include "core/tenant.h"
#include "core/tenantdoc.h"

static void
check_issues(const struct bh_issues *issues)
{
    size_t count = 0;

    for (const struct bh_issue *issue = issues->first; issue != NULL; issue = issue->next) {
        MUST(issue->pointer[0] == '\0' || issue->pointer[0] == '/');
        MUST(issue->detail[0] != '\0');
        MUST((issue->at == NULL) == (issue->kind == BH_ISSUE_MISSING) ||
             strcmp(issue->pointer, "/id") == 0 || strcmp(issue->pointer, "/name") == 0);
        count++;
    }
    MUST(count == (issues->count < BH_ISSUES_MAX ? issues->count : BH_ISSUES_MAX));
}

static void
write_doc(struct bh_buf *out, const struct bh_tenant_doc *doc)
{
    bh_buf_puts(out, "{\"id\":");
    bh_buf_json(out, doc->id);
    bh_buf_puts(out, ",\"name\":");
    bh_buf_json(out, doc->name);
    bh_buf_puts(out, ",\"tier\":");
    bh_buf_json(out, doc->tier);
    bh_buf_printf(out, ",\"limits\":{\"requests_per_second\":%lld,\"burst\":%lld}}",
        (long long)doc->rate, (long long)doc->burst);
}

static void
check_doc(const struct bh_tenant_doc *doc, struct bh_arena *arena)
{
    struct bh_tenant_doc again;
    struct bh_issues issues;
    struct bh_json *value;
    struct bh_buf text;

    MUST(bh_tenant_id_check(doc->id, NULL) == BH_OK);
    MUST(doc->rate >= 1 && doc->rate <= 1000000 && doc->burst >= 1 && doc->burst <= 1000000);
    MUST(bh_utf8_valid(doc->name) && doc->name.len <= 800 &&
         bh_tier_name_check(doc->tier, NULL) == BH_OK);
    bh_buf_init_arena(&text, arena, 1 << 16);
    write_doc(&text, doc);
    MUST(bh_json_parse(bh_buf_str(&text), BH_JSON_DEPTH, arena, &value, NULL) == BH_OK);
    bh_issues_init(&issues, arena);
    bh_tenant_doc_read(value, (struct bh_str){NULL, 0}, &issues, &again);
    MUST(issues.count == 0 && bh_str_eq(again.id, doc->id) && bh_str_eq(again.name, doc->name));
    MUST(again.rate == doc->rate && again.burst == doc->burst);
}

/* What is written of a tree reads as the same text again. */
static void
check_text(const struct bh_json *value, struct bh_arena *arena)
{
    struct bh_json *again;
    struct bh_buf first;
    struct bh_buf second;

    bh_buf_init_arena(&first, arena, 1 << 22);
    bh_buf_init_arena(&second, arena, 1 << 22);
    bh_json_write(&first, value);
    MUST(bh_buf_ok(&first));
    MUST(bh_json_parse(bh_buf_str(&first), BH_JSON_DEPTH, arena, &again, NULL) == BH_OK);
    bh_json_write(&second, again);
    MUST(bh_str_eq(bh_buf_str(&first), bh_buf_str(&second)));
}

static void
check_tier(const struct bh_json *value, struct bh_arena *arena)
{
    struct bh_tier_doc doc;
    struct bh_issues issues;

    bh_issues_init(&issues, arena);
    bh_tier_doc_read(value, (struct bh_str){NULL, 0}, &issues, &doc);
    MUST(!issues.failed);
    check_issues(&issues);
    if (issues.count == 0)
        MUST(bh_tier_name_check(doc.name, NULL) == BH_OK);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct bh_str paths[] = {{NULL, 0}, BH_STR("acme"), BH_STR("Bad Id")};
    struct bh_str text = {(const char *)data, size};
    struct bh_chunks chunks;
    struct bh_issues issues;
    struct bh_tenant_doc doc;
    struct bh_json *value;

    bh_chunks_init(&chunks);
    if (bh_json_parse(text, BH_JSON_DEPTH, &chunks.arena, &value, NULL) == BH_OK) {
        check_text(value, &chunks.arena);
        check_tier(value, &chunks.arena);
        for (size_t i = 0; i < 3; i++) {
            bh_issues_init(&issues, &chunks.arena);
            bh_tenant_doc_read(value, paths[i], &issues, &doc);
            MUST(!issues.failed);
            MUST(i < 2 || issues.count > 0);
            check_issues(&issues);
            if (issues.count == 0)
                check_doc(&doc, &chunks.arena);
        }
    }
    bh_chunks_fini(&chunks);
    return 0;
}
