#include "tests/unit/core/test.h"

#include "data/refusal.h"

/* An object and a message for (format, translated format, text). */
struct sample {
    const char *id;
    const char *format;
    const char *text;
    const char *object;
    const char *message;
};

static const struct sample samples[] = {
    {"permission denied for table %s", "permission denied for table %s",
        "permission denied for table notes", "table notes", "permission denied"},
    {"permission denied for table %s", "keine Berechtigung für Tabelle %s",
        "keine Berechtigung für Tabelle notes", "table notes", "permission denied"},
    {"permission denied for column \"%s\" of relation \"%s\"", "%2$s: Spalte %1$s",
        "notes: Spalte body", "column \"body\" of relation \"notes\"", "permission denied"},
    {"permission denied for column \"%s\" of relation \"%s\"",
        "permission denied for column \"%s\" of relation \"%s\"",
        "permission denied for column \"a\" of relation \"b\" of relation \"c\"",
        "column \"a\" of relation \"b\" of relation \"c\"", "permission denied"},
    {"permission denied for large object %u", "permission denied for large object %u",
        "permission denied for large object 16400", "large object 16400", "permission denied"},
    {"permission denied for table %s", "permission denied for table %s", "something else",
        "table ...", "permission denied"},
    {"permission denied for table %s", "%9$s", "x", "table ...", "permission denied"},
    {"permission denied for table %s", "permission denied for table %s", "", "table ...",
        "permission denied"},
    {"new row violates row-level security policy \"%s\" for table \"%s\"",
        "new row violates row-level security policy \"%s\" for table \"%s\"",
        "new row violates row-level security policy \"p\" for table \"t\"",
        "policy \"p\" for table \"t\"", "new row violates row-level security policy"},
    {"must be superuser to do %s", "must be superuser to do %s", "must be superuser to do secret",
        "", "must be superuser to do ..."},
    {"could not open file \"%s\": %m", "could not open file \"%s\": %m",
        "could not open file \"/secret\": no", "", "could not open file \"...\": ..."},
    {"%s", "%s", "secret", "", "..."},
    {"%-*.*f%", "%-*.*f%", "secret", "", "......"},
    {"", "", "secret", "", ""},
    {"%s is not allowed while a tenant is bound", "%s is not allowed while a tenant is bound",
        "SET ROLE is not allowed while a tenant is bound", "SET ROLE",
        "not allowed while a tenant is bound"},
    {"%s above the tenant's limit is not allowed", "%s above the tenant's limit is not allowed",
        "work_mem above the tenant's limit is not allowed", "work_mem", "above the tenant's limit"},
    {"table \"%s\" %s", "table \"%s\" %s", "table \"t\" is not protected by row security",
        "table t", "is not protected by row security"},
    {"table \"%s\" %s", "table \"%s\" %s", "nonsense", "table ...", "..."},
    {"token refused: %s", "token refused: %s", "token refused: it is too long", "token",
        "token refused: it is too long"},
};

static void
of_known_formats_names_are_taken_and_of_others_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        const struct sample *it = &samples[i];
        struct bh_refusal refusal;
        char *id = exact_copy(it->id, strlen(it->id) + 1);
        char *format = exact_copy(it->format, strlen(it->format) + 1);
        char *text = exact_copy(it->text, strlen(it->text) + 1);
        bh_refusal_read(id, format, text, &refusal);
        assert_string_equal(refusal.object, it->object);
        assert_string_equal(refusal.message, it->message);
        free(id);
        free(format);
        free(text);
    }
}

static void
a_name_is_cut_as_an_identifier_is(void **state)
{
    (void)state;
    char text[400] = "permission denied for table ";
    struct bh_refusal refusal;
    memset(text + strlen(text), 'a', 300);
    bh_refusal_read(
        "permission denied for table %s", "permission denied for table %s", text, &refusal);
    assert_int_equal(strlen(refusal.object), strlen("table ") + BH_REFUSAL_NAME_MAX);
}

static void
what_cannot_be_printed_is_escaped_and_never_cut_in_half(void **state)
{
    (void)state;
    char out[16];
    assert_int_equal(bh_refusal_print(BH_STR("a\n\\\xff"), out, sizeof(out)), 13);
    assert_string_equal(out, "a\\x0a\\x5c\\xff");
    for (size_t size = 1; size <= sizeof(out); size++) {
        size_t len = bh_refusal_print(BH_STR("\x01\x02\x03\x04z"), out, size);
        assert_true(len < size && len % 4 == 0);
        assert_int_equal(strlen(out), len);
    }
}

static void
a_long_format_stays_within_the_message(void **state)
{
    (void)state;
    char format[1000] = "";
    struct bh_refusal refusal;
    memset(format, '%', sizeof(format) - 1);
    bh_refusal_read(format, format, format, &refusal);
    assert_true(strlen(refusal.message) < sizeof(refusal.message));
    memset(format, 'x', sizeof(format) - 1);
    bh_refusal_read(format, format, format, &refusal);
    assert_int_equal(strlen(refusal.message), sizeof(refusal.message) - 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_known_formats_names_are_taken_and_of_others_nothing),
        cmocka_unit_test(a_name_is_cut_as_an_identifier_is),
        cmocka_unit_test(what_cannot_be_printed_is_escaped_and_never_cut_in_half),
        cmocka_unit_test(a_long_format_stays_within_the_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
