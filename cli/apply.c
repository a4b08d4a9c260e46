#include "cli/apply.h"

#include <string.h>

#include "cli/follow.h"
#include "cli/out.h"
#include "cli/plan.h"

#define REPLANS_MAX 5 /* how often others may be faster before we give up */

/* One run over some files; the arrays go in step. */
struct run {
    struct bh_client *client;
    const struct bh_files *files;
    struct bh_plan *plans;
    struct bh_applied *applied;
    struct bh_followed *followed;
    size_t followed_count;
};

/* ---- problems of the server, shown in the file ---- */

/* At its place where the file states it, else by its pointer. */
static void
show_entry(const struct bh_file *file, const json_t *entry)
{
    const char *pointer = bh_json_text(entry, "pointer");
    const char *detail = bh_json_text(entry, "detail");
    const struct bh_yaml_node *node =
        pointer == NULL || *pointer == '\0' ? NULL : bh_yaml_find(file->root, pointer);

    if (detail == NULL)
        detail = bh_code_title(BH_E_INVALID);
    if (node != NULL)
        bh_file_show(file, node->value, detail);
    else
        bh_out_message(stderr, "bulkhead: %s: %s%s%s", file->label, pointer == NULL ? "" : pointer,
            pointer == NULL || *pointer == '\0' ? "" : ": ", detail);
}

static int
tell_refused(const struct bh_file *file, const json_t *problem, const struct bh_error *err)
{
    const json_t *errors = json_object_get(problem, "errors");
    size_t i;
    json_t *entry;

    if (err->code == BH_E_INVALID && json_array_size(errors) > 0)
        json_array_foreach(errors, i, entry) show_entry(file, entry);
    else
        bh_out_message(stderr, "bulkhead: %s: %s", file->label, err->detail);
    if (err->hint[0] != '\0')
        bh_out_message(stderr, "  hint: %s", err->hint);
    return bh_code_exit(err->code);
}

/* ---- planning ---- */

/* Does one of the files make the tier? */
static bool
is_planned(const struct bh_files *files, struct bh_str tier)
{
    for (size_t i = 0; i < files->count; i++)
        if (files->items[i].tier && bh_str_is(tier, files->items[i].id))
            return true;
    return false;
}

/* Which tiers there are only the server knows; it is asked before the first write. */
static int
check_tier(struct bh_client *client, const struct bh_files *files, const struct bh_file *file)
{
    struct bh_request request = {.method = "GET"};
    struct bh_str tier = file->doc.tier;
    struct bh_answer answer;
    struct bh_error err;
    char detail[BH_DETAIL_MAX];
    enum bh_code code;

    if (file->tier || bh_str_is(tier, BH_TENANT_TIER) || is_planned(files, tier))
        return 0;
    const char *name = bh_arena_strndup(client->arena, tier.data, tier.len);
    if (name == NULL)
        return bh_cli_no_memory();
    request.path = bh_client_path(client, "/v1/tiers/%s", bh_client_escape(client, name));
    code = bh_client_call(client, &request, &answer, &err);
    json_decref(answer.body);
    if (code == BH_OK)
        return 0;
    if (code != BH_E_NOT_FOUND)
        return bh_cli_report(&err);
    (void)snprintf(detail, sizeof(detail),
        "tier: is no tier; \"standard\" is always there, the others: bulkhead get tiers");
    bh_file_show(file, bh_yaml_find(file->root, "/tier")->value, detail);
    return BH_EXIT_INPUT;
}

static int
check_tiers(struct bh_client *client, const struct bh_files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        int code = check_tier(client, files, &files->items[i]);
        if (code != 0)
            return code;
    }
    return 0;
}

static int
plan_all(struct run *run)
{
    size_t counts[3] = {0};
    struct bh_error err;
    int code = check_tiers(run->client, run->files);

    if (code != 0)
        return code;

    for (size_t i = 0; i < run->files->count; i++) {
        if (bh_plan_make(run->client, &run->files->items[i], &run->plans[i], &err) != BH_OK)
            return bh_cli_report(&err);
        counts[run->plans[i].action]++;
    }
    for (size_t i = 0; i < run->files->count; i++)
        bh_plan_print(stderr, &run->plans[i]);
    if (run->files->count > 1)
        bh_out_message(stderr, "%zu to create, %zu to change, %zu unchanged",
            counts[BH_ACTION_CREATE], counts[BH_ACTION_CHANGE], counts[BH_ACTION_NONE]);
    return 0;
}

/* ---- putting ---- */

/* Sends one PUT that holds only while the plan is true. */
static enum bh_code
put_once(
    struct run *run, const struct bh_plan *plan, struct bh_answer *ret_answer, struct bh_error *err)
{
    struct bh_request request = {.method = "PUT", .body = bh_plan_file_body(plan->file)};
    enum bh_code code;

    *ret_answer = (struct bh_answer){0};
    if (request.body == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    request.path = bh_plan_path(run->client, plan->file);
    request.create_only = plan->action == BH_ACTION_CREATE;
    if (plan->action == BH_ACTION_CHANGE)
        request.if_match = bh_json_text(plan->current, "etag");
    code = bh_client_call(run->client, &request, ret_answer, err);
    json_decref(request.body);
    return code;
}

/* Puts what the plan says; where somebody was faster, plans again and says so. */
static enum bh_code
put_planned(
    struct run *run, struct bh_plan *plan, struct bh_answer *ret_answer, struct bh_error *err)
{
    const struct bh_file *file = plan->file;
    enum bh_code code = put_once(run, plan, ret_answer, err);

    for (int n = 0; code == BH_E_PRECONDITION && n < REPLANS_MAX; n++) {
        json_decref(ret_answer->body);
        *ret_answer = (struct bh_answer){0};
        bh_out_message(stderr, "%s was changed meanwhile; what will happen now:", file->label);
        bh_plan_free(plan);
        BH_TRY(bh_plan_make(run->client, file, plan, err));
        bh_plan_print(stderr, plan);
        code = put_once(run, plan, ret_answer, err);
    }
    return code;
}

static int
put_file(struct run *run, size_t i)
{
    static const char *const results[] = {
        [BH_ACTION_CREATE] = "created",
        [BH_ACTION_CHANGE] = "changed",
        [BH_ACTION_NONE] = "unchanged",
    };
    const struct bh_file *file = &run->files->items[i];
    struct bh_answer answer;
    struct bh_error err;
    const char *operation;
    int code;

    run->applied[i] = (struct bh_applied){.file = file, .result = "failed"};
    if (put_planned(run, &run->plans[i], &answer, &err) != BH_OK) {
        code = tell_refused(file, answer.body, &err);
        json_decref(answer.body);
        return code;
    }
    run->applied[i].tenant = answer.body;
    run->applied[i].result = results[run->plans[i].action];
    operation = bh_json_text(answer.body, "operation");
    if (operation != NULL) {
        struct bh_followed *item = &run->followed[run->followed_count++];
        item->id = bh_arena_strdup(run->client->arena, operation);
        item->tenant = file->id;
        if (item->id == NULL)
            run->followed_count--;
    }
    return 0;
}

/* Is there any sense in going on with the other files? */
static bool
is_final(int code)
{
    return code == bh_code_exit(BH_E_UNAVAILABLE) || code == bh_code_exit(BH_E_UNAUTHENTICATED);
}

static int
put_all(struct run *run)
{
    int code = 0;

    for (size_t i = 0; i < run->files->count; i++) {
        int one = put_file(run, i);
        if (code == 0)
            code = one;
        if (is_final(one))
            break;
    }
    return code;
}

/* ---- afterwards ---- */

static void
look_again(struct run *run, struct bh_applied *applied)
{
    struct bh_request request = {.method = "GET"};
    struct bh_answer answer;
    struct bh_error err;

    request.path = bh_plan_path(run->client, applied->file);
    if (bh_client_call(run->client, &request, &answer, &err) == BH_OK && answer.body != NULL) {
        json_decref(applied->tenant);
        applied->tenant = answer.body;
        return;
    }
    json_decref(answer.body);
}

static void
settle(struct run *run)
{
    for (size_t i = 0; i < run->followed_count; i++) {
        const struct bh_followed *item = &run->followed[i];
        const char *state = bh_json_text(item->operation, "state");
        for (size_t n = 0; n < run->files->count; n++) {
            struct bh_applied *applied = &run->applied[n];
            if (applied->file == NULL || applied->file->tier ||
                strcmp(applied->file->id, item->tenant) != 0)
                continue;
            if (!item->over)
                applied->result = "running";
            else if (state == NULL || strcmp(state, "succeeded") != 0)
                applied->result = "failed";
            if (bh_interrupted() == 0)
                look_again(run, applied);
        }
    }
}

static int
run_all(struct run *run, long timeout_s)
{
    int code = plan_all(run);
    int followed;

    if (code != 0)
        return code;
    code = put_all(run);
    followed = bh_follow(run->client, run->followed, run->followed_count, timeout_s);
    settle(run);
    return code != 0 ? code : followed;
}

int
bh_apply(struct bh_client *client, const struct bh_files *files, long timeout_s,
    struct bh_applied **ret_applied)
{
    struct run run = {.client = client, .files = files};
    struct bh_arena *arena = client->arena;
    int code;

    *ret_applied = NULL;
    run.plans = bh_arena_zalloc(arena, files->count * sizeof(*run.plans));
    run.applied = bh_arena_zalloc(arena, files->count * sizeof(*run.applied));
    run.followed = bh_arena_zalloc(arena, files->count * sizeof(*run.followed));
    if (run.plans == NULL || run.applied == NULL || run.followed == NULL)
        return bh_cli_no_memory();
    code = run_all(&run, timeout_s);
    for (size_t i = 0; i < files->count; i++)
        bh_plan_free(&run.plans[i]);
    bh_follow_end(run.followed, run.followed_count);
    *ret_applied = run.applied;
    return code;
}

void
bh_apply_end(struct bh_applied *applied, size_t count)
{
    for (size_t i = 0; applied != NULL && i < count; i++)
        json_decref(applied[i].tenant);
}

/* ---- the commands ---- */

static int
print_json(const struct bh_files *files, const struct bh_applied *applied)
{
    json_t *items = json_array();

    for (size_t i = 0; i < files->count; i++)
        if (applied[i].tenant != NULL)
            (void)json_array_append(items, applied[i].tenant);
    if (files->list)
        return bh_out_json(json_pack("{s:o, s:n}", "items", items, "next_page_token"));
    if (json_array_size(items) == 1)
        (void)bh_out_json(json_incref(json_array_get(items, 0)));
    json_decref(items);
    return BH_EXIT_OK;
}

static int
print_table(const struct bh_files *files, const struct bh_applied *applied)
{
    struct bh_table *table = bh_table_new("TENANT|*RESULT|*STATE|URL");

    for (size_t i = 0; i < files->count; i++) {
        const char *cells[] = {files->items[i].label,
            applied[i].result == NULL ? "not tried" : applied[i].result,
            bh_json_text(applied[i].tenant, "state"), bh_json_text(applied[i].tenant, "url")};
        bh_table_row(table, cells, 4);
    }
    return bh_table_print(table);
}

int
bh_cmd_apply(struct bh_cli *cli)
{
    struct bh_files files = {0};
    struct bh_applied *applied = NULL;
    struct bh_client client;
    struct bh_error err;
    long timeout_s;
    int code = bh_follow_timeout(cli, &timeout_s);

    if (code == 0)
        code = bh_files_read(cli, &files);
    if (code != 0)
        return code;
    if (bh_client_open(cli, &client, &err) != BH_OK)
        return bh_cli_report(&err);
    code = bh_apply(&client, &files, timeout_s, &applied);
    if (applied != NULL && applied[0].file != NULL) {
        int printed = bh_cli_json(cli) ? print_json(&files, applied) : print_table(&files, applied);
        code = code != 0 ? code : printed;
    }
    bh_apply_end(applied, files.count);
    bh_client_close(&client);
    return code;
}

static int
diff_files(struct bh_cli *cli, struct bh_client *client, const struct bh_files *files)
{
    json_t *items = json_array();
    bool changes = false;
    struct bh_error err;
    int code = check_tiers(client, files);

    for (size_t i = 0; code == 0 && i < files->count; i++) {
        struct bh_plan plan = {.action = BH_ACTION_NONE};
        if (bh_plan_make(client, &files->items[i], &plan, &err) != BH_OK)
            code = bh_cli_report(&err);
        else if (bh_cli_json(cli))
            (void)json_array_append_new(items, bh_plan_json(&plan));
        else
            bh_plan_print(stdout, &plan);
        changes = changes || plan.action != BH_ACTION_NONE;
        bh_plan_free(&plan);
    }
    if (code == 0 && bh_cli_json(cli))
        code = bh_out_json(json_pack("{s:O}", "items", items));
    json_decref(items);
    if (code == 0 && changes && cli->options[BH_OPT_EXIT_CODE] != NULL)
        code = BH_EXIT_NEGATIVE;
    return code;
}

int
bh_cmd_diff(struct bh_cli *cli)
{
    struct bh_files files = {0};
    struct bh_client client;
    struct bh_error err;
    int code = bh_files_read(cli, &files);

    if (code != 0)
        return code;
    if (bh_client_open(cli, &client, &err) != BH_OK)
        return bh_cli_report(&err);
    code = diff_files(cli, &client, &files);
    bh_client_close(&client);
    return code;
}
