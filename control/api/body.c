/* Bodies: strict JSON first (400), then the route's table (422). */
#include "control/api/api.h"

enum bh_code
bh_body_parse(struct bh_request *request, struct bh_error *err)
{
    struct bh_json *value;

    if (request->body.len == 0)
        return bh_fail(err, BH_E_BAD_REQUEST, "the body is empty; a JSON object is needed");
    BH_TRY(bh_json_parse(request->body, BH_JSON_DEPTH, request->arena, &value, err));
    request->json = value;
    return BH_OK;
}

enum bh_code
bh_body_read(
    struct bh_request *request, const struct bh_fields *fields, void *target, struct bh_error *err)
{
    bh_fields_read(fields, request->json, target, &request->issues);
    return bh_issues_code(&request->issues, err);
}

const char *
bh_text(struct bh_request *request, struct bh_str s)
{
    return bh_arena_strndup(request->arena, s.data == NULL ? "" : s.data, s.len);
}

const char *
bh_json_text_of(struct bh_request *request, const struct bh_json *value, const char *absent)
{
    struct bh_buf text;

    if (value == NULL)
        return absent;
    bh_buf_init_arena(&text, request->arena, 8 * (size_t)BH_BODY_MAX); /* all of it escaped */
    bh_json_write(&text, value);
    return bh_buf_ok(&text) ? bh_buf_str(&text).data : NULL;
}
