#include "agent/report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/log.h"
#include "core/buf.h"

#define LINE_MAX 4096

/* Who reads may have gone away (SIGPIPE is blocked): progress is then nobody's concern. */
static void
send_line(int *fd, const struct bh_buf *line)
{
    if (*fd >= 0 && write(*fd, line->data, line->len) != (ssize_t)line->len) {
        close(*fd);
        *fd = -1;
    }
}

void
bh_report_component(
    struct bh_report *report, const char *component, const char *state, const char *detail)
{
    char text[LINE_MAX];
    struct bh_buf buf;
    bh_log("%s: %s%s%s", component, state, detail[0] ? ": " : "", detail);
    bh_buf_init(&buf, text, sizeof(text));
    bh_buf_printf(&buf, "{\"component\":\"%s\",\"state\":\"%s\",\"detail\":", component, state);
    bh_buf_json(&buf, bh_str_of(detail));
    bh_buf_puts(&buf, "}\n");
    if (bh_buf_ok(&buf))
        send_line(&report->notify, &buf);
}

/* ${plain}: for the parent: exit code, newline, detail, newline, hint. */
static void
format_end(struct bh_buf *buf, const struct bh_error *err, bool plain)
{
    int code = err ? bh_code_exit(err->code) : 0;
    if (plain) {
        bh_buf_printf(buf, "%d\n%s\n%s", code, err ? err->detail : "", err ? err->hint : "");
    } else if (!err) {
        bh_buf_puts(buf, "{\"ready\":true}\n");
    } else {
        bh_buf_puts(buf, "{\"ready\":false,\"detail\":");
        bh_buf_json(buf, bh_str_of(err->detail));
        bh_buf_puts(buf, ",\"hint\":");
        bh_buf_json(buf, bh_str_of(err->hint));
        bh_buf_printf(buf, ",\"exit\":%d}\n", code);
    }
}

void
bh_report_end(struct bh_report *report, const struct bh_error *err)
{
    char text[LINE_MAX];
    struct bh_buf buf;
    bh_buf_init(&buf, text, sizeof(text));
    int *fds[] = {&report->notify, &report->parent};
    for (size_t i = 0; i < 2; i++) {
        bh_buf_reset(&buf);
        format_end(&buf, err, i == 1);
        send_line(fds[i], &buf);
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
}

int
bh_report_wait(int fd)
{
    char text[LINE_MAX];
    size_t len = 0;
    for (;;) {
        ssize_t n = read(fd, text + len, sizeof(text) - 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    text[len] = '\0';
    char *save = NULL;
    char *code = strtok_r(text, "\n", &save);
    if (!code) {
        fprintf(stderr, "bulkhead-agent: the agent ended before all was ready\n");
        return 1;
    }
    char *detail = strtok_r(NULL, "\n", &save);
    char *hint = strtok_r(NULL, "\n", &save);
    if (detail)
        fprintf(stderr, "bulkhead-agent: %s\n", detail);
    if (hint)
        fprintf(stderr, "  %s\n", hint);
    uint64_t number;
    return bh_str_uint(bh_str_of(code), 255, &number) ? (int)number : 1;
}
