#include "control/api/problem.h"

#include <stdio.h>

#include "control/api/write.h"

static void
write_place(struct bh_writer *w, const char *detail, const char *suggestion, const char *pointer)
{
    char text[BH_DETAIL_MAX];

    bh_write_open(w, NULL, '{');
    if (suggestion != NULL) {
        (void)snprintf(text, sizeof(text), "%s; did you mean %s?", detail, suggestion);
        detail = text;
    }
    bh_write_text(w, "detail", detail);
    bh_write_text(w, "pointer", pointer);
    bh_write_close(w, '}');
}

static void
write_places(struct bh_writer *w, const struct bh_error *err, const struct bh_issues *issues)
{
    bool listed = issues != NULL && issues->first != NULL;

    if (!listed && err->pointer[0] == '\0')
        return;
    bh_write_open(w, "errors", '[');
    if (!listed)
        write_place(w, err->detail, NULL, err->pointer);
    for (const struct bh_issue *issue = listed ? issues->first : NULL; issue != NULL;
         issue = issue->next)
        write_place(w, issue->detail, issue->suggestion, issue->pointer);
    bh_write_close(w, ']');
}

/* One issue speaks for itself; of several the detail says how many. */
static void
write_detail(struct bh_writer *w, const struct bh_error *err, const struct bh_issues *issues)
{
    char text[BH_DETAIL_MAX + BH_POINTER_MAX + 16];

    if (err->code == BH_E_INVALID && issues != NULL && issues->count > 1)
        (void)snprintf(text, sizeof(text), "%zu members or parameters are wrong", issues->count);
    else if (err->code == BH_E_INVALID && err->pointer[0] != '\0')
        (void)snprintf(text, sizeof(text), "%s %s", err->pointer, err->detail);
    else
        (void)snprintf(text, sizeof(text), "%s", err->detail);
    bh_write_text(w, "detail", text);
}

void
bh_problem_write(struct bh_buf *out, const struct bh_error *err, const struct bh_issues *issues,
    const char *request_id)
{
    struct bh_writer w = {.buf = out};
    const char *slug = bh_code_slug(err->code);
    char type[96];

    (void)snprintf(type, sizeof(type), "%s%s", BH_PROBLEM_TYPE, slug);
    bh_write_open(&w, NULL, '{');
    bh_write_text(&w, "type", type);
    bh_write_text(&w, "title", bh_code_title(err->code));
    bh_write_int(&w, "status", bh_code_http(err->code));
    write_detail(&w, err, issues);
    bh_write_text(&w, "code", slug);
    if (err->hint[0] != '\0')
        bh_write_text(&w, "hint", err->hint);
    write_places(&w, err, issues);
    bh_write_text(&w, "request_id", request_id);
    bh_write_close(&w, '}');
}
