/* What apply would change, without a server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "cli/out.h"
#include "cli/plan.h"

static struct bh_tenant_doc
doc(void)
{
    return (struct bh_tenant_doc){.id = BH_STR("acme"),
        .name = BH_STR("Acme"),
        .tier = BH_STR("standard"),
        .rate = 100,
        .burst = 200};
}

static void
the_body_states_every_field(void **state)
{
    struct bh_tenant_doc acme = doc();
    json_t *body = bh_plan_body(&acme);
    json_t *wanted = json_pack("{s:s, s:s, s:{s:i, s:i}}", "name", "Acme", "tier", "standard",
        "limits", "requests_per_second", 100, "burst", 200);

    (void)state;
    assert_true(json_equal(body, wanted));
    json_decref(body);
    json_decref(wanted);
}

static void
nothing_there_is_a_creation(void **state)
{
    struct bh_tenant_doc acme = doc();
    json_t *changes;

    (void)state;
    assert_int_equal(bh_plan_compare(&acme, NULL, &changes), BH_ACTION_CREATE);
    assert_int_equal(json_array_size(changes), 4);
    assert_true(json_is_null(json_object_get(json_array_get(changes, 0), "from")));
    json_decref(changes);
}

static void
only_what_differs_is_a_change(void **state)
{
    struct bh_tenant_doc acme = doc();
    json_t *current =
        json_pack("{s:s, s:s, s:s, s:s, s:{s:i, s:i}}", "id", "acme", "state", "active", "name",
            "Acme", "tier", "standard", "limits", "requests_per_second", 100, "burst", 200);
    json_t *changes;

    (void)state;
    assert_int_equal(bh_plan_compare(&acme, current, &changes), BH_ACTION_NONE);
    assert_int_equal(json_array_size(changes), 0);
    json_decref(changes);
    acme.burst = INT64_C(9007199254740993); /* not a double */
    assert_int_equal(bh_plan_compare(&acme, current, &changes), BH_ACTION_CHANGE);
    assert_int_equal(json_array_size(changes), 1);
    const json_t *change = json_array_get(changes, 0);
    assert_string_equal(bh_json_text(change, "pointer"), "/limits/burst");
    assert_int_equal(json_integer_value(json_object_get(change, "from")), 200);
    assert_true(json_integer_value(json_object_get(change, "to")) == INT64_C(9007199254740993));
    json_decref(changes);
    json_decref(current);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_body_states_every_field),
        cmocka_unit_test(nothing_there_is_a_creation),
        cmocka_unit_test(only_what_differs_is_a_change),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
