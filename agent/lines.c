#include "agent/lines.h"

enum bh_code
bh_lines_feed(struct bh_lines *lines, const char *data, size_t len,
    enum bh_code (*visit)(void *arg, struct bh_str line, struct bh_error *err), void *arg,
    struct bh_error *err)
{
    while (len > 0) {
        const char *end = memchr(data, '\n', len);
        size_t part = end ? (size_t)(end - data) : len;
        if (part > sizeof(lines->data) - lines->len)
            return bh_fail(err, BH_E_TOO_LARGE, "a line of the feed exceeds %d bytes", BH_LINE_MAX);
        memcpy(lines->data + lines->len, data, part);
        lines->len += part;
        if (!end)
            return BH_OK;
        struct bh_str line = {lines->data, lines->len};
        lines->len = 0;
        BH_TRY(visit(arg, line, err));
        data += part + 1;
        len -= part + 1;
    }
    return BH_OK;
}
