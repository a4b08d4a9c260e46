#include "cli/follow.h"

#include <string.h>
#include <time.h>

#include "cli/out.h"
#include "core/buf.h"
#include "core/time.h"

#define POLL_MIN_MS 40
#define POLL_MAX_MS 400

int
bh_follow_timeout(const struct bh_cli *cli, long *ret_seconds)
{
    return bh_cli_number(cli, BH_OPT_TIMEOUT, 1, 86400, 60, ret_seconds);
}

static bool
is_over(const json_t *operation)
{
    const char *state = bh_json_text(operation, "state");

    return state == NULL || (strcmp(state, "running") != 0 && strcmp(state, "undoing") != 0);
}

static bool
has_succeeded(const json_t *operation)
{
    const char *state = bh_json_text(operation, "state");

    return state != NULL && strcmp(state, "succeeded") == 0;
}

static int64_t
time_of(const json_t *object, const char *name)
{
    const char *text = bh_json_text(object, name);
    int64_t us;

    return text != NULL && bh_time_parse(bh_str_of(text), &us) ? us : -1;
}

static void
show_steps(struct bh_progress *progress, const struct bh_followed *item)
{
    size_t i;
    json_t *step;

    json_array_foreach(json_object_get(item->operation, "steps"), i, step)
    {
        int64_t from = time_of(step, "started_at");
        int64_t to = time_of(step, "finished_at");
        json_int_t attempt = json_integer_value(json_object_get(step, "attempt"));
        const char *detail = bh_json_text(json_object_get(step, "error"), "detail");
        const char *name = bh_json_text(step, "name");
        const char *state = bh_json_text(step, "state");
        char note[96] = "";
        if (name == NULL || state == NULL)
            continue;
        if (detail != NULL && attempt > 1 && strcmp(state, "running") == 0)
            (void)snprintf(
                note, sizeof(note), "attempt %lld, after: %.50s", (long long)attempt, detail);
        bh_progress_set(progress, item->row, name, state, note,
            from >= 0 && to >= from ? (to - from) / 1000 : -1);
    }
}

/* Asks once.  A server that is away is no answer; what it refuses is an end. */
static enum bh_code
ask(struct bh_client *client, struct bh_followed *item, struct bh_error *err)
{
    struct bh_request request = {.method = "GET"};
    struct bh_answer answer;
    enum bh_code code;

    request.path = bh_client_path(client, "/v1/operations/%s", bh_client_escape(client, item->id));
    code = bh_client_call(client, &request, &answer, err);
    if (code == BH_OK && json_is_object(answer.body)) {
        json_decref(item->operation);
        item->operation = answer.body;
        item->over = is_over(answer.body);
        return BH_OK;
    }
    json_decref(answer.body);
    return code == BH_OK ? bh_fail(err, BH_E_UNAVAILABLE, "the answer is empty") : code;
}

/* One round over all that are not over; false where the server refuses to say more. */
static bool
ask_all(struct bh_client *client, struct bh_followed *items, size_t count,
    struct bh_progress *progress, struct bh_error *err)
{
    for (size_t i = 0; i < count && bh_interrupted() == 0; i++) {
        enum bh_code code;
        if (items[i].over)
            continue;
        code = ask(client, &items[i], err);
        if (code == BH_OK)
            show_steps(progress, &items[i]);
        else if (code != BH_E_UNAVAILABLE && code != BH_E_NOT_READY && code != BH_E_TIMEOUT)
            return false;
    }
    bh_progress_draw(progress);
    return true;
}

static bool
all_over(const struct bh_followed *items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!items[i].over)
            return false;
    return true;
}

static void
pause_ms(int64_t ms)
{
    struct timespec span = {ms / 1000, (ms % 1000) * 1000000};

    (void)nanosleep(&span, NULL); /* a signal ends it early, which is what we want */
}

/* ---- what to say at the end ---- */

/* Names of the steps in ${state}, parted by commas, or "". */
static void
list_steps(const json_t *operation, const char *state, struct bh_buf *buf)
{
    size_t i;
    json_t *step;

    json_array_foreach(json_object_get(operation, "steps"), i, step)
    {
        const char *is = bh_json_text(step, "state");
        const char *name = bh_json_text(step, "name");
        if (is == NULL || name == NULL || strcmp(is, state) != 0)
            continue;
        if (buf->len > 0)
            bh_buf_puts(buf, ", ");
        bh_buf_puts(buf, name);
    }
}

/* The step that failed: the one in state failed, else the first with an error. */
static const json_t *
failed_step(const json_t *operation)
{
    const json_t *found = NULL;
    size_t i;
    json_t *step;

    json_array_foreach(json_object_get(operation, "steps"), i, step)
    {
        const char *state = bh_json_text(step, "state");
        if (state != NULL && strcmp(state, "failed") == 0)
            return step;
        if (found == NULL && json_is_object(json_object_get(step, "error")))
            found = step;
    }
    return found;
}

/* What to type next: the server's hint where it names a command, else a resumption. */
static void
tell_next(const struct bh_followed *item, const struct bh_error *err)
{
    if (strstr(err->hint, "bulkhead ") != NULL) {
        bh_out_message(stderr, "  next: %s", err->hint);
        return;
    }
    if (err->hint[0] != '\0')
        bh_out_message(stderr, "  hint: %s", err->hint);
    bh_out_message(stderr, "  next: bulkhead op resume %s", item->id);
}

static void
tell_failure(const struct bh_followed *item)
{
    const json_t *step = failed_step(item->operation);
    const json_t *cause = json_object_get(step, "error");
    const json_t *problem = json_object_get(item->operation, "error");
    const char *kind = bh_json_text(item->operation, "kind");
    const char *state = bh_json_text(item->operation, "state");
    const char *name = bh_json_text(step, "name");
    char undone[512];
    struct bh_buf buf;
    struct bh_error err;
    struct bh_error why;

    (void)bh_problem_read(json_is_object(problem) ? problem : cause, 0, &err);
    (void)bh_problem_read(json_is_object(cause) ? cause : problem, 0, &why);
    bh_out_message(stderr, "bulkhead: %s of %s %s%s%s: %s", kind == NULL ? "operation" : kind,
        item->tenant, state == NULL ? "failed" : state, name == NULL ? "" : " at step ",
        name == NULL ? "" : name, why.detail);
    bh_buf_init(&buf, undone, sizeof(undone));
    list_steps(item->operation, "undone", &buf);
    if (buf.len > 0)
        bh_out_message(stderr, "  undone: %s", undone);
    tell_next(item, &err);
}

static int
tell_going_on(const struct bh_followed *item, long timeout_s, const struct bh_error *last)
{
    int signal = bh_interrupted();

    if (signal != 0)
        bh_out_message(
            stderr, "bulkhead: no longer watching; the operation on %s goes on", item->tenant);
    else if (last->code != BH_OK)
        bh_out_message(stderr, "bulkhead: cannot see how the operation on %s goes on: %s",
            item->tenant, last->detail);
    else
        bh_out_message(stderr, "bulkhead: the operation on %s is not over after %ld s; it goes on",
            item->tenant, timeout_s);
    bh_out_message(stderr, "  next: bulkhead op watch %s", item->id);
    return signal != 0 ? 128 + signal : BH_EXIT_TIMEOUT;
}

static int
tell(const struct bh_followed *items, size_t count, long timeout_s, const struct bh_error *last)
{
    int code = 0;

    for (size_t i = 0; i < count; i++) {
        int one = 0;
        if (!items[i].over) {
            one = tell_going_on(&items[i], timeout_s, last);
        } else if (!has_succeeded(items[i].operation)) {
            tell_failure(&items[i]);
            one = BH_EXIT_FAILED;
        }
        if (code == 0 || one > code)
            code = one == 0 ? code : one;
    }
    return code;
}

int
bh_follow(struct bh_client *client, struct bh_followed *items, size_t count, long timeout_s)
{
    int64_t deadline = bh_monotonic_ms() + timeout_s * 1000;
    int64_t wait = POLL_MIN_MS;
    struct bh_progress progress;
    struct bh_error last = {0};

    if (count == 0)
        return 0;
    bh_interrupts_watch();
    bh_progress_init(&progress, false);
    for (size_t i = 0; i < count; i++)
        items[i].row = bh_progress_row(&progress, items[i].tenant);
    for (;;) {
        last.code = BH_OK;
        if (!ask_all(client, items, count, &progress, &last))
            break;
        if (all_over(items, count) || bh_interrupted() != 0 || bh_monotonic_ms() >= deadline)
            break;
        pause_ms(wait);
        wait = wait * 5 / 4 > POLL_MAX_MS ? POLL_MAX_MS : wait * 5 / 4;
    }
    bh_progress_end(&progress);
    return tell(items, count, timeout_s, &last);
}

void
bh_follow_end(struct bh_followed *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        json_decref(items[i].operation);
        items[i].operation = NULL;
    }
}
