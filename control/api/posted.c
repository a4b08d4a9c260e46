#include "control/api/posted.h"

#include <string.h>

#include "core/time.h"

enum bh_code
bh_posted_source_rule(struct bh_str text, struct bh_error *err)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] < 0x21 || text.data[i] > 0x7e)
            return bh_fail(err, BH_E_INVALID, "must be printable ASCII without spaces");
    return BH_OK;
}

enum bh_code
bh_posted_time_rule(struct bh_str text, struct bh_error *err)
{
    int64_t time_us;

    if (bh_time_parse(text, &time_us))
        return BH_OK;
    return bh_fail(err, BH_E_INVALID, "must be a time as in RFC 3339");
}

/* An agent's sources are its own id, and what stands below it. */
enum bh_code
bh_posted_source_check(struct bh_request *request, struct bh_str source, struct bh_error *err)
{
    struct bh_str id = bh_str_of(request->principal.id);
    bool below = source.len > id.len && source.data[id.len] == '/' &&
                 memcmp(source.data, id.data, id.len) == 0;

    if (below || bh_str_eq(source, id))
        return BH_OK;
    return bh_fail_at(err, BH_E_NOT_PERMITTED, "/source", "agent %s may post as itself only",
        request->principal.id);
}
