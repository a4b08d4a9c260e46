#include "control/registry/failure.h"

#include "core/buf.h"

void
bh_failure_write(const struct bh_error *err, char ret_json[BH_FAILURE_MAX])
{
    const char *slug = bh_code_slug(err->code);
    struct bh_buf out;
    bh_buf_init(&out, ret_json, BH_FAILURE_MAX);
    bh_buf_printf(&out, "{\"type\":\"https://bulkhead.dev/errors/%s\",\"title\":", slug);
    bh_buf_json(&out, bh_str_of(bh_code_title(err->code)));
    bh_buf_printf(&out, ",\"status\":%d,\"detail\":", bh_code_http(err->code));
    bh_buf_json(&out, bh_str_of(err->detail));
    bh_buf_printf(&out, ",\"code\":\"%s\"", slug);
    if (err->hint[0]) {
        bh_buf_puts(&out, ",\"hint\":");
        bh_buf_json(&out, bh_str_of(err->hint));
    }
    bh_buf_putc(&out, '}');
}
