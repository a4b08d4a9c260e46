/* The parts of registry and flow that need no server: plans, failures, migration files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "control/flow/work.h"
#include "control/registry/failure.h"
#include "core/json.h"

/* ---- plans ---- */

static void
every_step_of_every_plan_exists(void **state)
{
    static const char *const kinds[] = {"onboard", "update", "offboard"};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        const struct bh_plan *plan = bh_plan_find(kinds[i]);
        assert_non_null(plan);
        assert_non_null(plan->steps[0]);
        for (int s = 0; s < BH_PLAN_STEPS && plan->steps[s]; s++) {
            const struct bh_flow_step *step = bh_flow_step_find(plan->steps[s]);
            assert_non_null(step);
            assert_non_null(plan->removes ? step->remove : step->ensure);
            assert_true(step->deadline_ms > 0);
        }
    }
    assert_null(bh_plan_find("nothing"));
    assert_null(bh_flow_step_find("nothing"));
}

/* ---- failures ---- */

static void
a_failure_is_a_json_problem(void **state)
{
    struct bh_chunks chunks;
    struct bh_error err;
    struct bh_json *json;
    char text[BH_FAILURE_MAX];
    (void)state;
    bh_chunks_init(&chunks);
    bh_fail(&err, BH_E_ENGINE, "it said \"no\"\n\x01");
    bh_hint(&err, "try: bulkhead op resume op_X");
    bh_failure_write(&err, text);
    assert_int_equal(bh_json_parse(bh_str_of(text), 4, &chunks.arena, &json, &err), BH_OK);
    assert_true(bh_str_is(bh_json_get(json, "code")->text, "engine-failed"));
    assert_true(bh_str_is(bh_json_get(json, "status")->text, "502"));
    assert_true(bh_str_is(bh_json_get(json, "detail")->text, "it said \"no\"\n\x01"));
    assert_true(bh_str_is(bh_json_get(json, "hint")->text, "try: bulkhead op resume op_X"));
    bh_fail(&err, BH_E_ENGINE, "short");
    bh_failure_write(&err, text);
    assert_null(strstr(text, "hint"));
    bh_chunks_fini(&chunks);
}

static void
the_longest_failure_fits(void **state)
{
    struct bh_chunks chunks;
    struct bh_error err = {.code = BH_E_ENGINE};
    struct bh_json *json;
    char text[BH_FAILURE_MAX];
    (void)state;
    memset(err.detail, '\x01', BH_DETAIL_MAX - 1);
    memset(err.hint, '\x01', BH_HINT_MAX - 1);
    bh_failure_write(&err, text);
    bh_chunks_init(&chunks);
    assert_int_equal(bh_json_parse(bh_str_of(text), 4, &chunks.arena, &json, &err), BH_OK);
    assert_int_equal(bh_json_get(json, "detail")->text.len, BH_DETAIL_MAX - 1);
    bh_chunks_fini(&chunks);
}

/* ---- migration files ---- */

struct folder {
    char path[64];
    struct bh_chunks chunks;
};

static int
open_folder(void **state)
{
    struct folder *folder = calloc(1, sizeof(*folder));
    if (!folder)
        return -1;
    snprintf(folder->path, sizeof(folder->path), "/tmp/bh-migrations-XXXXXX");
    bh_chunks_init(&folder->chunks);
    *state = folder;
    return mkdtemp(folder->path) ? 0 : -1;
}

static const char *const files[] = {"0002_b.sql", "0001_a.sql", "0010_c.sql", "README", "001_x.sql",
    "0003_.txt", "0004x.sql", "0005_.sql"};

static int
close_folder(void **state)
{
    struct folder *folder = *state;
    char path[128];
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", folder->path, files[i]);
        unlink(path);
    }
    rmdir(folder->path);
    bh_chunks_fini(&folder->chunks);
    free(folder);
    return 0;
}

static void
write_file(const struct folder *folder, const char *name, const char *data, size_t len)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder->path, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

static void
numbered_files_come_in_order(void **state)
{
    struct folder *folder = *state;
    struct bh_migration *migrations;
    struct bh_error err;
    size_t count;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
        write_file(folder, files[i], files[i], strlen(files[i]));
    assert_int_equal(
        bh_migrations_read(folder->path, &folder->chunks.arena, &migrations, &count, &err), BH_OK);
    assert_int_equal(count, 3);
    assert_string_equal(migrations[0].name, "0001_a.sql");
    assert_string_equal(migrations[1].sql, "0002_b.sql");
    assert_string_equal(migrations[2].name, "0010_c.sql");
}

static void
files_that_cannot_be_run_are_refused(void **state)
{
    struct folder *folder = *state;
    struct bh_migration *migrations;
    struct bh_error err;
    size_t count;
    write_file(folder, "0001_a.sql", "SELECT\0 1", 9);
    assert_int_equal(
        bh_migrations_read(folder->path, &folder->chunks.arena, &migrations, &count, &err),
        BH_E_CONFIG);
    assert_non_null(strstr(err.detail, "0001_a.sql"));
    assert_int_equal(
        bh_migrations_read("/nowhere", &folder->chunks.arena, &migrations, &count, &err),
        BH_E_CONFIG);
    assert_non_null(strstr(err.detail, "/nowhere"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_step_of_every_plan_exists),
        cmocka_unit_test(a_failure_is_a_json_problem),
        cmocka_unit_test(the_longest_failure_fits),
        cmocka_unit_test_setup_teardown(numbered_files_come_in_order, open_folder, close_folder),
        cmocka_unit_test_setup_teardown(
            files_that_cannot_be_run_are_refused, open_folder, close_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
