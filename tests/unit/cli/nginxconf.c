/* nginx's configuration as `nginx -T` prints it: words, blocks, files that include files. */
#include "tests/unit/core/test.h"

#include "cli/nginxconf.h"

static struct bh_chunks chunks;

static struct bh_conf *
parse(const char *text)
{
    struct bh_conf *root;
    struct bh_error err;
    assert_int_equal(bh_conf_parse(bh_str_of(text), "t", &chunks.arena, &root, &err), BH_OK);
    return root;
}

static void
refuses(const char *text, const char *detail)
{
    struct bh_conf *root;
    struct bh_error err;
    assert_int_equal(bh_conf_parse(bh_str_of(text), "t", &chunks.arena, &root, &err), BH_E_INVALID);
    assert_string_equal(err.detail, detail);
}

static void
words_are_parted_as_nginx_parts_them(void **state)
{
    (void)state;
    const struct bh_conf *root = parse("a b \"c d\" 'e\\'f' # g;\n  ${h}i j{k; }\nl \"x;{}#\"; m;");
    const struct bh_conf *a = root->first;
    assert_true(bh_conf_is(a, "a"));
    assert_int_equal(a->arg_count, 5);
    assert_string_equal(bh_conf_arg(a, 1), "c d");
    assert_string_equal(bh_conf_arg(a, 2), "e'f");
    assert_string_equal(bh_conf_arg(a, 3), "${h}i");
    assert_string_equal(bh_conf_arg(a, 4), "j");
    assert_string_equal(bh_conf_arg(a, 5), "");
    assert_string_equal(bh_conf_arg(NULL, 0), "");
    assert_int_equal(a->line, 1);
    assert_true(bh_conf_is(a->first, "k"));
    assert_string_equal(bh_conf_arg(a->next, 0), "x;{}#");
    assert_int_equal(a->next->line, 3);
    assert_null(a->next->next->next);
}

static void
what_is_no_configuration_is_refused_with_its_line(void **state)
{
    (void)state;
    refuses("a {\n b;\n", "t:3: a block is not closed");
    refuses("a;\n}", "t:2: a block ends that never began");
    refuses("a\nb", "t:2: the text ends within a directive");
    refuses("a 'b\n", "t:2: a quote is not closed");
    refuses(";", "t:1: this is no nginx configuration");
    refuses("{}", "t:1: this is no nginx configuration");
}

static void
an_include_stands_for_the_files_of_the_dump(void **state)
{
    (void)state;
    const struct bh_conf *root = parse("# configuration file /etc/n/n.conf:\n"
                                       "http { include sites/*.conf; last; }\n"
                                       "# configuration file /etc/n/sites/b.conf:\n"
                                       "server {\n  listen 1;\n}\n"
                                       "# configuration file /etc/n/other.conf:\nnever;\n");
    const struct bh_conf *server = root->first->first->next;
    assert_true(bh_conf_is(server, "server"));
    assert_string_equal(server->file, "/etc/n/sites/b.conf");
    assert_int_equal(server->first->line, 2);
    assert_true(bh_conf_is(server->next, "last"));
    for (const struct bh_conf *conf = root; conf != NULL; conf = bh_conf_next(root, conf))
        assert_false(bh_conf_is(conf, "never"));
    refuses("# configuration file /a:\ninclude /a;\n", "/a:1: files are included too deeply");
}

static void
what_holds_is_said_by_the_nearest_block(void **state)
{
    (void)state;
    const struct bh_conf *root = parse("x 1; http { x 2; x 3; server { location / { y; } x 4; } }");
    const struct bh_conf *http = root->first->next;
    const struct bh_conf *server = bh_conf_child(http, "server");
    const struct bh_conf *location = bh_conf_child(server, "location");
    assert_string_equal(bh_conf_arg(bh_conf_here(location, "x"), 0), "4");
    assert_string_equal(bh_conf_arg(bh_conf_here(http, "x"), 0), "3");
    assert_null(bh_conf_here(location, "z"));
    assert_null(bh_conf_child(location, "x"));
    assert_ptr_equal(bh_conf_around(location->first, "server"), server);
    assert_null(bh_conf_around(http, "server"));
}

static int
forget(void **state)
{
    (void)state;
    bh_chunks_fini(&chunks);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_are_parted_as_nginx_parts_them),
        cmocka_unit_test(what_is_no_configuration_is_refused_with_its_line),
        cmocka_unit_test(an_include_stands_for_the_files_of_the_dump),
        cmocka_unit_test(what_holds_is_said_by_the_nearest_block),
    };
    bh_chunks_init(&chunks);
    return cmocka_run_group_tests(tests, NULL, forget);
}
