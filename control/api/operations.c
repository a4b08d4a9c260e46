/* /v1/operations: long work, step by step. */
#include <string.h>

#include "control/api/api.h"
#include "control/api/page.h"
#include "control/api/write.h"

static const char *const states[] = {"running", "succeeded", "undoing", "undone", "failed"};

static void
write_step(struct bh_writer *w, const struct bh_step *step)
{
    bh_write_open(w, NULL, '{');
    bh_write_text(w, "name", step->name);
    bh_write_text(w, "state", step->state);
    bh_write_int(w, "attempt", step->attempt);
    bh_write_raw(w, "error", step->error);
    bh_write_time(w, "started_at", step->started_us);
    bh_write_time(w, "finished_at", step->finished_us);
    bh_write_close(w, '}');
}

static void
write_operation(struct bh_writer *w, const struct bh_operation *operation)
{
    bh_write_open(w, NULL, '{');
    bh_write_text(w, "id", operation->id);
    bh_write_text(w, "kind", operation->kind);
    bh_write_text(w, "tenant", operation->tenant);
    bh_write_int(w, "generation", operation->generation);
    bh_write_text(w, "state", operation->state);
    bh_write_open(w, "steps", '[');
    for (size_t i = 0; i < operation->step_count; i++)
        write_step(w, &operation->steps[i]);
    bh_write_close(w, ']');
    bh_write_raw(w, "error", operation->error);
    bh_write_time(w, "created_at", operation->created_us);
    bh_write_time(w, "finished_at", operation->finished_us);
    bh_write_close(w, '}');
}

/* "op_" and 26 characters; what cannot be an id names nothing. */
static enum bh_code
path_id(struct bh_request *request, const char **ret_id, struct bh_error *err)
{
    struct bh_str id = request->params[0];

    if (id.len != 3 + BH_ULID_TEXT - 1 || memcmp(id.data, "op_", 3) != 0 ||
        strspn(id.data + 3, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") < BH_ULID_TEXT - 1)
        return bh_fail(err, BH_E_NOT_FOUND, "there is no operation of this id");
    *ret_id = bh_text(request, id);
    return *ret_id == NULL ? bh_fail(err, BH_E_NO_MEMORY, "out of memory") : BH_OK;
}

static bool
state_known(const char *state)
{
    for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
        if (strcmp(state, states[i]) == 0)
            return true;
    return false;
}

BH_HANDLER(bh_operations_list)
{
    struct bh_writer w = {.buf = &reply->body};
    struct bh_operation *operations;
    struct bh_list list = {0};
    size_t count;
    bool more;

    bh_page_read(request, &list.limit, &list.after);
    list.state = bh_query_get(&request->query, "state");
    list.tenant = bh_query_get(&request->query, "tenant");
    list.q = bh_query_get(&request->query, "q");
    if (list.state != NULL && !state_known(list.state))
        bh_param_bad(request, "state", "is no state of an operation");
    BH_TRY(bh_issues_code(&request->issues, err));
    BH_TRY(bh_operation_list(request->db, request->arena, &list, &operations, &count, &more, err));
    bh_page_begin(&w);
    for (size_t i = 0; i < count; i++)
        write_operation(&w, &operations[i]);
    bh_page_end(request, &w, more && count > 0 ? operations[count - 1].id : NULL);
    return BH_OK;
}

BH_HANDLER(bh_operations_get)
{
    struct bh_writer w = {.buf = &reply->body};
    struct bh_operation operation;
    const char *id;

    BH_TRY(path_id(request, &id, err));
    BH_TRY(bh_operation_get(request->db, request->arena, id, &operation, err));
    write_operation(&w, &operation);
    return BH_OK;
}

BH_HANDLER(bh_operations_resume)
{
    struct bh_writer w = {.buf = &reply->body};
    struct bh_operation operation;
    const char *id;

    BH_TRY(path_id(request, &id, err));
    BH_TRY(bh_operation_resume(request->db, request->arena, id, &operation, err));
    reply->status = 202;
    bh_reply_header(
        reply, "Location", bh_arena_printf(request->arena, "/v1/operations/%s", operation.id));
    write_operation(&w, &operation);
    return BH_OK;
}
