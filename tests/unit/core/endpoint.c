/* An endpoint is an address and options; what is not exactly that is refused. */
#include "test.h"

#include "core/endpoint.h"

static void
test_plain_addresses(void **state)
{
    (void)state;
    static const char *const good[] = {"127.0.0.1:7090", "[::1]:80", "255.255.255.255:65535",
        "[fe80::1:2]:1", "unix:/run/app.sock"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct bh_endpoint e;
        assert_int_equal(bh_endpoint_parse(bh_str_of(good[i]), &e, NULL), BH_OK);
        assert_true(bh_str_is(e.address, good[i]));
        assert_true(e.group.len == 0 && e.tls.len == 0 && e.weight == 1 && !e.grpc && !e.backup);
    }
}

static void
test_options_in_any_order(void **state)
{
    (void)state;
    static const char *const same[] = {
        "10.0.0.1:443;weight=7;group=v2.1_b;tls=app.example.com;grpc;backup",
        "10.0.0.1:443;backup;grpc;tls=app.example.com;group=v2.1_b;weight=7",
    };
    for (size_t i = 0; i < 2; i++) {
        struct bh_endpoint e;
        assert_int_equal(bh_endpoint_parse(bh_str_of(same[i]), &e, NULL), BH_OK);
        assert_true(bh_str_is(e.address, "10.0.0.1:443"));
        assert_true(bh_str_is(e.group, "v2.1_b"));
        assert_true(bh_str_is(e.tls, "app.example.com"));
        assert_true(e.weight == 7 && e.grpc && e.backup);
    }
    struct bh_endpoint e;
    assert_int_equal(bh_endpoint_parse(BH_STR("unix:/a;weight=1000"), &e, NULL), BH_OK);
    assert_int_equal(e.weight, 1000);
}

static void
test_what_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"", ":80", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:+1",
        "1.2.3.4", "localhost:80", "1.2.3:80", "01.2.3.4:80", "::1:80", "[::1]", "[1.2.3.4]:80",
        "[]:80", "[:80", "[::1%1]:80", "unix:", "unix:a", "1.2.3.4 :80", "1.2.3.4:80\n",
        "1.2.3.4:80;", "1.2.3.4:80;;grpc", "1.2.3.4:80;weight",
        "1.2.3.4:80;weight=", "1.2.3.4:80;weight=0", "1.2.3.4:80;weight=1001",
        "1.2.3.4:80;weight=01", "1.2.3.4:80;weight=-1", "1.2.3.4:80;grpc=", "1.2.3.4:80;grpc=1",
        "1.2.3.4:80;backup;backup", "1.2.3.4:80;weight=1;weight=1",
        "1.2.3.4:80;group=", "1.2.3.4:80;group=A", "1.2.3.4:80;group=a/b",
        "1.2.3.4:80;group=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "1.2.3.4:80;tls",
        "1.2.3.4:80;tls=", "1.2.3.4:80;tls=.", "1.2.3.4:80;tls=a..b", "1.2.3.4:80;tls=a.",
        "1.2.3.4:80;tls=A.b", "1.2.3.4:80;tls=*.b", "1.2.3.4:80;tls=10.0.0.1",
        "1.2.3.4:80;tls=-a.b", "1.2.3.4:80;tls=a_b", "1.2.3.4:80;Weight=1", "1.2.3.4:80; weight=1",
        "1.2.3.4:80;max=1", ";weight=1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct bh_endpoint e;
        struct bh_error err;
        if (bh_endpoint_parse(bh_str_of(bad[i]), &e, &err) != BH_E_INVALID) {
            fail_msg("\"%s\" was accepted", bad[i]);
        }
        assert_true(err.detail[0] != '\0');
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_addresses),
        cmocka_unit_test(test_options_in_any_order),
        cmocka_unit_test(test_what_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
