/* The tenant document: what it accepts, and every way in which it says no. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/tenantdoc.h"

struct fixture {
    struct bh_chunks chunks;
    struct bh_issues issues;
    struct bh_tenant_doc doc;
};

static void
read_text(struct fixture *f, const char *text, const char *path_id)
{
    struct bh_json *value;
    struct bh_error err;

    bh_chunks_init(&f->chunks);
    bh_issues_init(&f->issues, &f->chunks.arena);
    assert_int_equal(
        bh_json_parse(bh_str_of(text), BH_JSON_DEPTH, &f->chunks.arena, &value, &err), BH_OK);
    bh_tenant_doc_read(value, path_id == NULL ? (struct bh_str){NULL, 0} : bh_str_of(path_id),
        &f->issues, &f->doc);
}

static bool
same(struct bh_str text, const char *expected)
{
    return bh_str_is(text, expected);
}

static void
defaults(void **state)
{
    struct fixture f;

    (void)state;
    read_text(&f, "{}", "acme");
    assert_int_equal(f.issues.count, 0);
    assert_true(same(f.doc.id, "acme") && same(f.doc.name, "acme") && same(f.doc.tier, "standard"));
    assert_int_equal(f.doc.rate, 100);
    assert_int_equal(f.doc.burst, 200);
    bh_chunks_fini(&f.chunks);
    read_text(&f, "{\"limits\":{\"burst\":7},\"name\":\"\"}", "acme");
    assert_int_equal(f.issues.count, 0);
    assert_int_equal(f.doc.rate, 100);
    assert_int_equal(f.doc.burst, 7);
    assert_true(same(f.doc.name, ""));
    bh_chunks_fini(&f.chunks);
}

static void
all_stated(void **state)
{
    struct fixture f;

    (void)state;
    read_text(&f,
        "{\"id\":\"acme\",\"name\":\"Acme \\u00e4 Ltd\",\"tier\":\"standard\","
        "\"limits\":{\"requests_per_second\":1,\"burst\":1000000},"
        "\"uid\":5,\"no\":\"x\",\"state\":[],\"generation\":{},\"observed_generation\":null,"
        "\"url\":1,\"database\":1,\"operation\":1,\"conditions\":1,\"etag\":1,"
        "\"created_at\":1,\"updated_at\":{\"a\":1}}",
        NULL);
    assert_int_equal(f.issues.count, 0);
    assert_true(same(f.doc.name, "Acme \u00e4 Ltd"));
    assert_int_equal(f.doc.rate, 1);
    assert_int_equal(f.doc.burst, 1000000);
    bh_chunks_fini(&f.chunks);
}

static void
a_layer_may_name_what_its_tier_has(void **state)
{
    struct fixture f;

    (void)state;
    read_text(&f,
        "{\"tier\":\"gold\",\"domains\":[\"shop.example\"],"
        "\"endpoints\":[\"127.0.0.1:80;weight=2;group=b\"],"
        "\"edge\":{\"limits\":[\"daily\"],\"routes\":[{\"path\":\"/a\",\"limits\":[\"reads\"]}]}}",
        "acme");
    assert_int_equal(f.issues.count, 0);
    assert_true(same(f.doc.domains->first->text, "shop.example"));
    assert_non_null(bh_json_get(f.doc.edge, "routes"));
    bh_chunks_fini(&f.chunks);
}

static void
read_tier(struct fixture *f, const char *text, struct bh_tier_doc *tier)
{
    struct bh_json *value;

    bh_chunks_init(&f->chunks);
    bh_issues_init(&f->issues, &f->chunks.arena);
    assert_int_equal(
        bh_json_parse(bh_str_of(text), BH_JSON_DEPTH, &f->chunks.arena, &value, NULL), BH_OK);
    bh_tier_doc_read(value, (struct bh_str){NULL, 0}, &f->issues, tier);
}

static void
a_tier_stands_for_itself(void **state)
{
    struct fixture f;
    struct bh_tier_doc tier;

    (void)state;
    read_tier(
        &f, "{\"kind\":\"tier\",\"name\":\"gold\",\"edge\":{\"auth\":\"app\"},\"etag\":1}", &tier);
    assert_int_equal(f.issues.count, 0);
    assert_true(same(tier.name, "gold"));
    bh_chunks_fini(&f.chunks);
    read_tier(&f, "{\"kind\":\"tier\",\"edge\":{\"limits\":[\"daily\"]}}", &tier);
    assert_int_equal(f.issues.count, 2);
    assert_string_equal(f.issues.first->pointer, "/edge/limits");
    assert_string_equal(f.issues.last->pointer, "/name");
    bh_chunks_fini(&f.chunks);
}

struct refusal {
    const char *text;
    const char *path_id;
    const char *pointers; /* of all issues, each followed by a space */
};

static const struct refusal refusals[] = {
    {"[]", "acme", " "},
    {"{}", NULL, "/id "},
    {"{}", "Acme", "/id "},
    {"{\"id\":\"other\"}", "acme", "/id "},
    {"{\"id\":\"Bad Id\"}", "acme", "/id "},
    {"{\"id\":7}", "acme", "/id "},
    {"{\"id\":\"www\"}", NULL, "/id "},
    {"{\"id\":null}", NULL, "/id "},
    {"{\"name\":1,\"tier\":true}", "acme", "/name /tier "},
    {"{\"name\":\"a\\nb\"}", "acme", "/name "},
    {"{\"name\":\"a\\u007f\"}", "acme", "/name "},
    {"{\"name\":\"a\\u0085\"}", "acme", "/name "},
    {"{\"tier\":\"Gold\"}", "acme", "/tier "},
    {"{\"tier\":\"t42\"}", "acme", "/tier "},
    {"{\"edge\":[]}", "acme", "/edge "},
    {"{\"edge\":{\"auht\":1,\"api_keys\":\"yes\"}}", "acme", "/edge/auht /edge/api_keys "},
    {"{\"edge\":{\"quota_policies\":[],\"limits\":[\"daily\"]}}", "acme", "/edge/limits "},
    {"{\"edge\":{\"routes\":[{\"path\":\"a\"}]}}", "acme", "/edge/routes/0/path "},
    {"{\"domains\":[\"Shop.example\",\"shop\",\"10.0.0.1\",7]}", "acme",
        "/domains/0 /domains/1 /domains/2 /domains/3 "},
    {"{\"domains\":[\"a.example\",\"b.example\",\"a.example\"]}", "acme", "/domains/2 "},
    {"{\"endpoints\":[\"127.0.0.1:80;wieght=2\",\"127.0.0.1\"]}", "acme",
        "/endpoints/0 /endpoints/1 "},
    {"{\"teir\":\"x\",\"limits\":{\"rps\":1,\"burst\":0}}", "acme",
        "/teir /limits/rps /limits/burst "},
    {"{\"a/b~c\":1}", "acme", "/a~1b~0c "},
    {"{\"limits\":[]}", "acme", "/limits "},
    {"{\"limits\":null}", "acme", "/limits "},
    {"{\"limits\":{\"burst\":1000001,\"requests_per_second\":-1}}", "acme",
        "/limits/burst /limits/requests_per_second "},
    {"{\"limits\":{\"burst\":1.0,\"requests_per_second\":1e2}}", "acme",
        "/limits/burst /limits/requests_per_second "},
    {"{\"limits\":{\"burst\":\"5\",\"requests_per_second\":99999999999999999999}}", "acme",
        "/limits/burst /limits/requests_per_second "},
};

static void
refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        struct fixture f;
        char pointers[256];
        size_t len = 0;

        pointers[0] = '\0';
        read_text(&f, refusals[i].text, refusals[i].path_id);
        for (const struct bh_issue *issue = f.issues.first; issue != NULL; issue = issue->next)
            len += (size_t)snprintf(pointers + len, sizeof(pointers) - len, "%s ", issue->pointer);
        assert_string_equal(pointers, refusals[i].pointers);
        bh_chunks_fini(&f.chunks);
    }
}

static void
name_length_counts_characters(void **state)
{
    char text[1024];
    struct fixture f;

    (void)state;
    for (int length = 200; length <= 201; length++) {
        int len = snprintf(text, sizeof(text), "{\"name\":\"");
        for (int i = 0; i < length; i++)
            len += snprintf(text + len, sizeof(text) - (size_t)len, "\u00e4");
        (void)snprintf(text + len, sizeof(text) - (size_t)len, "\"}");
        read_text(&f, text, "acme");
        assert_int_equal(f.issues.count, length == 200 ? 0 : 1);
        bh_chunks_fini(&f.chunks);
    }
}

static void
suggestion(void **state)
{
    struct fixture f;
    struct bh_error err;

    (void)state;
    read_text(&f, "{\"teir\":\"standard\",\"zebra\":1}", "acme");
    assert_int_equal(f.issues.count, 2);
    assert_int_equal(f.issues.first->kind, BH_ISSUE_UNKNOWN);
    assert_string_equal(f.issues.first->suggestion, "tier");
    assert_true(same(f.issues.first->at->name, "teir"));
    assert_null(f.issues.last->suggestion);
    assert_int_equal(bh_issues_code(&f.issues, &err), BH_E_INVALID);
    assert_string_equal(err.pointer, "/teir");
    bh_chunks_fini(&f.chunks);
}

static void
many_issues_are_capped(void **state)
{
    char text[8192] = "{";
    size_t len = 1;
    struct fixture f;

    (void)state;
    for (int i = 0; i < 200; i++)
        len += (size_t)snprintf(
            text + len, sizeof(text) - len, "%s\"unknown%d\":1", i == 0 ? "" : ",", i);
    (void)snprintf(text + len, sizeof(text) - len, "}");
    read_text(&f, text, "acme");
    assert_int_equal(f.issues.count, 200);
    assert_string_equal(f.issues.last->pointer, "/unknown63");
    bh_chunks_fini(&f.chunks);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(all_stated),
        cmocka_unit_test(a_layer_may_name_what_its_tier_has),
        cmocka_unit_test(a_tier_stands_for_itself),
        cmocka_unit_test(refused),
        cmocka_unit_test(name_length_counts_characters),
        cmocka_unit_test(suggestion),
        cmocka_unit_test(many_issues_are_capped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
