#include "cli/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/http.h"
#include "cli/out.h"
#include "cli/progress.h"

#define WORDS_MAX 32
#define NOTIFY_FD 3
#define LINE_BYTES 8192

/* A command line under construction. */
struct words {
    char *items[WORDS_MAX];
    size_t count;
    struct bh_arena *arena;
    bool failed;
};

static void
add_word(struct words *words, const char *text)
{
    char *copy = words->count + 1 < WORDS_MAX ? bh_arena_strdup(words->arena, text) : NULL;

    if (copy == NULL)
        words->failed = true;
    else
        words->items[words->count++] = copy;
}

static void
add_flag(struct words *words, const char *flag, const char *value)
{
    char text[64];

    (void)snprintf(text, sizeof(text), "--%s", flag);
    add_word(words, text);
    add_word(words, value);
}

/* Asked for, else as last time, else the agent's default (NULL). */
static const char *
base_domain(const struct bh_cli *cli, const struct bh_state *state)
{
    const char *value = cli->options[BH_OPT_BASE_DOMAIN];

    if (value == NULL)
        value = getenv(bh_option_rows[BH_OPT_BASE_DOMAIN].variable);
    if (value == NULL || *value == '\0')
        value = state->base_domain;
    return *value != '\0' ? value : NULL;
}

/* What names the set-up: the same words start and stop it. */
static void
add_site(struct words *words, const struct bh_state *state)
{
    char number[16];

    add_word(words, "bulkhead-agent");
    add_word(words, "--embedded");
    add_flag(words, "state", state->path);
    for (int i = 0; i < BH_PORT_COUNT; i++) {
        (void)snprintf(number, sizeof(number), "%ld", state->ports[i]);
        add_flag(words, bh_option_rows[bh_port_rows[i].option].word, number);
    }
}

/*
 * In the child: results of ours are none of the agent's, what it says beside
 * its notes goes to ${said}, and its end of the pipe is fd 3.
 */
static _Noreturn void
become(const char *path, char **words, int notify, int said)
{
    if (dup2(said, STDERR_FILENO) < 0 || dup2(said, STDOUT_FILENO) < 0)
        _exit(127);
    if (notify == NOTIFY_FD)
        (void)fcntl(notify, F_SETFD, 0);
    else if (notify >= 0 && dup2(notify, NOTIFY_FD) < 0)
        _exit(127);
    (void)execv(path, words);
    _exit(127);
}

/* Starts the agent's program; ${notify} is what it tells us through, or -1. */
static enum bh_code
launch(struct words *words, int notify, int said, pid_t *ret_pid, struct bh_error *err)
{
    char path[PATH_MAX];

    BH_TRY(bh_state_tool("bin/bulkhead-agent", path, err));
    if (words->failed)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    if (access(path, X_OK) != 0) {
        (void)bh_fail(err, BH_E_CONFIG, "cannot run %s: %s", path, strerror(errno));
        return bh_hint(err, "install it beside bulkhead, or build it with: make build");
    }
    words->items[words->count] = NULL;
    *ret_pid = fork();
    if (*ret_pid == 0)
        become(path, words->items, notify, said);
    return *ret_pid > 0
               ? BH_OK
               : bh_fail(err, BH_E_INTERNAL, "cannot start a process: %s", strerror(errno));
}

/* How a process of ours ended, as an exit code. */
static int
reap(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return BH_EXIT_FAILED;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- what it tells ---- */

struct ear {
    struct bh_progress progress;
    size_t row;
    char line[LINE_BYTES];
    size_t len;
    bool over; /* the last line came */
    bool ready;
    int exit;
    char detail[BH_DETAIL_MAX];
    char hint[BH_HINT_MAX];
};

static void
copy_text(char *into, size_t size, const char *text)
{
    (void)snprintf(into, size, "%s", text == NULL ? "" : text);
}

static void
hear_line(struct ear *ear)
{
    json_t *line = json_loadb(ear->line, ear->len, 0, NULL);
    const json_t *ready = json_object_get(line, "ready");
    const json_t *code = json_object_get(line, "exit");
    const char *component = bh_json_text(line, "component");
    const char *state = bh_json_text(line, "state");

    if (json_is_boolean(ready)) {
        ear->over = true;
        ear->ready = json_is_true(ready);
        ear->exit = json_is_integer(code) ? (int)json_integer_value(code) : BH_EXIT_FAILED;
        copy_text(ear->detail, sizeof(ear->detail), bh_json_text(line, "detail"));
        copy_text(ear->hint, sizeof(ear->hint), bh_json_text(line, "hint"));
    } else if (component != NULL && state != NULL) {
        bh_progress_set(
            &ear->progress, ear->row, component, state, bh_json_text(line, "detail"), -1);
    }
    json_decref(line);
    ear->len = 0;
}

/* Reads what is there; false at the end of the stream. */
static bool
hear(struct ear *ear, int fd)
{
    char data[4096];
    ssize_t got = read(fd, data, sizeof(data));

    if (got < 0)
        return errno == EINTR || errno == EAGAIN;
    for (ssize_t i = 0; i < got; i++) {
        if (data[i] == '\n')
            hear_line(ear);
        else if (ear->len < sizeof(ear->line))
            ear->line[ear->len++] = data[i];
    }
    return got > 0;
}

static void
listen_to(struct ear *ear, int fd)
{
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    bool more = true;

    while (more && !ear->over && bh_interrupted() == 0) {
        if (poll(&wait, 1, ear->progress.live ? 120 : -1) > 0)
            more = hear(ear, fd);
        bh_progress_draw(&ear->progress);
    }
}

/* What the agent said beside its notes: of interest where it ended without the last one. */
static void
print_said(int said)
{
    char text[4096];
    ssize_t got = said == STDERR_FILENO ? 0 : pread(said, text, sizeof(text), 0);
    size_t start = 0;

    for (size_t i = 0; got > 0 && i < (size_t)got; i++)
        if (text[i] == '\n') {
            bh_out_message(stderr, "  %.*s", (int)(i - start), text + start);
            start = i + 1;
        }
}

static int
tell_interrupted(void)
{
    bh_out_message(stderr, "bulkhead: interrupted; what was started goes on");
    bh_out_message(stderr, "  next: bulkhead status, then bulkhead up or bulkhead down");
    return 128 + bh_interrupted();
}

static int
conclude(const struct ear *ear, const struct bh_state *state, int code, int said)
{
    if (ear->over && ear->ready && code == 0)
        return 0;
    if (ear->over && !ear->ready) {
        bh_out_message(stderr, "bulkhead: %s", *ear->detail ? ear->detail : "it did not start");
        if (*ear->hint)
            bh_out_message(stderr, "  hint: %s", ear->hint);
        return ear->exit == 0 ? BH_EXIT_FAILED : ear->exit;
    }
    bh_out_message(stderr, "bulkhead: bulkhead-agent ended with %d before all was ready", code);
    print_said(said);
    bh_out_message(stderr, "  hint: its log is in %s/log", state->path);
    return code == 0 || code == 127 ? BH_EXIT_FAILED : code > 128 ? BH_EXIT_FAILED : code;
}

int
bh_agent_start(const struct bh_cli *cli, const struct bh_state *state)
{
    struct words words = {.arena = cli->arena};
    struct ear *ear = bh_arena_zalloc(cli->arena, sizeof(*ear));
    struct bh_error err;
    const char *domain = base_domain(cli, state);
    enum bh_code code;
    int said = memfd_create("agent", MFD_CLOEXEC);
    char number[16];
    int ends[2];
    int result;
    pid_t pid;

    if (ear == NULL || pipe2(ends, O_CLOEXEC) != 0)
        return bh_cli_no_memory();
    if (said < 0)
        said = STDERR_FILENO;
    add_site(&words, state);
    if (domain != NULL)
        add_flag(&words, "base-domain", domain);
    (void)snprintf(number, sizeof(number), "%d", NOTIFY_FD);
    add_flag(&words, "notify-fd", number);
    code = launch(&words, ends[1], said, &pid, &err);
    (void)close(ends[1]);
    if (code != BH_OK) {
        (void)close(ends[0]);
        return bh_cli_report(&err);
    }
    bh_interrupts_watch();
    bh_progress_init(&ear->progress, true);
    ear->row = bh_progress_row(&ear->progress, "");
    listen_to(ear, ends[0]);
    (void)close(ends[0]);
    bh_progress_end(&ear->progress);
    result = bh_interrupted() != 0 ? tell_interrupted() : conclude(ear, state, reap(pid), said);
    if (said != STDERR_FILENO)
        (void)close(said);
    return result;
}

int
bh_agent_stop(const struct bh_state *state)
{
    struct bh_chunks chunks;
    struct words words = {0};
    struct bh_error err;
    pid_t pid;
    int code;

    bh_chunks_init(&chunks);
    words.arena = &chunks.arena;
    add_site(&words, state);
    add_word(&words, "--stop");
    code = launch(&words, -1, STDERR_FILENO, &pid, &err) != BH_OK ? bh_cli_report(&err) : reap(pid);
    bh_chunks_fini(&chunks);
    return code;
}
