/* An endpoint that is accepted says the same when it is written again from its parts. */
#include "tests/fuzz/fuzz.h"

#include "core/endpoint.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bh_endpoint one, two;
    struct bh_str text = {(const char *)data, size};
    char again[2 * BH_ENDPOINT_TEXT_MAX];
    if (bh_endpoint_parse(text, &one, NULL) != BH_OK)
        return 0;
    MUST(one.weight >= 1 && one.weight <= BH_ENDPOINT_WEIGHT_MAX);
    MUST(memchr(one.address.data, ';', one.address.len) == NULL);
    struct bh_buf out;
    bh_buf_init(&out, again, sizeof(again));
    bh_buf_printf(&out, "%.*s;weight=%u%s%s", (int)one.address.len, one.address.data, one.weight,
        one.grpc ? ";grpc" : "", one.backup ? ";backup" : "");
    if (one.group.len > 0)
        bh_buf_printf(&out, ";group=%.*s", (int)one.group.len, one.group.data);
    if (one.tls.len > 0)
        bh_buf_printf(&out, ";tls=%.*s", (int)one.tls.len, one.tls.data);
    MUST(bh_buf_ok(&out));
    if (out.len > BH_ENDPOINT_TEXT_MAX)
        return 0;
    MUST(bh_endpoint_parse(bh_buf_str(&out), &two, NULL) == BH_OK);
    MUST(bh_str_eq(one.address, two.address) && bh_str_eq(one.group, two.group));
    MUST(bh_str_eq(one.tls, two.tls) && one.weight == two.weight);
    MUST(one.grpc == two.grpc && one.backup == two.backup);
    return 0;
}
