#include "control/problem.h"

void
bh_problem_members(struct bh_buf *out, const struct bh_error *err)
{
    const char *slug = bh_code_slug(err->code);
    bh_buf_printf(out, "\"type\":\"urn:bulkhead:problem:%s\",\"title\":", slug);
    bh_buf_json(out, bh_str_of(bh_code_title(err->code)));
    bh_buf_printf(out, ",\"status\":%d,\"detail\":", bh_code_http(err->code));
    bh_buf_json(out, bh_str_of(err->detail));
    bh_buf_printf(out, ",\"code\":\"%s\"", slug);
    if (err->hint[0]) {
        bh_buf_puts(out, ",\"hint\":");
        bh_buf_json(out, bh_str_of(err->hint));
    }
}

void
bh_problem_write(struct bh_buf *out, const struct bh_error *err)
{
    bh_buf_putc(out, '{');
    bh_problem_members(out, err);
    bh_buf_putc(out, '}');
}
