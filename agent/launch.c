#include "agent/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOG_MAX (10 << 20)
#define TAIL_BYTES 600

static void
rotate(const char *log)
{
    struct stat st;
    char old[PATH_MAX];
    if (stat(log, &st) == 0 && st.st_size > LOG_MAX &&
        (size_t)snprintf(old, sizeof(old), "%s.1", log) < sizeof(old))
        (void)rename(log, old);
}

/* The agent blocks signals for its signalfd: a child must not inherit that. */
static int
clean_signals(posix_spawnattr_t *attr)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    sigdelset(&all, SIGKILL);
    sigdelset(&all, SIGSTOP);
    int rc = posix_spawnattr_setsigmask(attr, &none);
    rc = rc ? rc : posix_spawnattr_setsigdefault(attr, &all);
    return rc ? rc
              : posix_spawnattr_setflags(
                    attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
}

static int
spawn_with(posix_spawn_file_actions_t *actions, const char *const *argv, const char *const *env,
    pid_t *ret_pid)
{
    posix_spawnattr_t attr;
    int rc = posix_spawnattr_init(&attr);
    if (rc)
        return rc;
    rc = clean_signals(&attr);
    if (!rc)
        rc = posix_spawn(ret_pid, argv[0], actions, &attr, (char *const *)(uintptr_t)argv,
            (char *const *)(uintptr_t)env);
    posix_spawnattr_destroy(&attr);
    return rc;
}

enum bh_code
bh_spawn(const char *const *argv, const char *const *env, const char *log, const char *cwd,
    pid_t *ret_pid, struct bh_error *err)
{
    posix_spawn_file_actions_t actions;
    rotate(log);
    int rc = posix_spawn_file_actions_init(&actions);
    if (rc)
        return bh_fail(err, BH_E_NO_MEMORY, "cannot start %s: %s", argv[0], strerror(rc));
    rc = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (!rc)
        rc = posix_spawn_file_actions_addopen(
            &actions, 1, log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600);
    if (!rc)
        rc = posix_spawn_file_actions_adddup2(&actions, 1, 2);
    if (!rc)
        rc = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    if (!rc)
        rc = posix_spawn_file_actions_addchdir_np(&actions, cwd);
    if (!rc)
        rc = spawn_with(&actions, argv, env, ret_pid);
    posix_spawn_file_actions_destroy(&actions);
    if (rc)
        return bh_fail(err, BH_E_CONFIG, "cannot start %s: %s", argv[0], strerror(rc));
    return BH_OK;
}

static void
read_pipe(int fd, char *ret_text, size_t size)
{
    size_t len = 0;
    char drop[1024];
    for (;;) {
        bool full = len + 1 >= size;
        ssize_t n = full ? read(fd, drop, sizeof(drop)) : read(fd, ret_text + len, size - 1 - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += full ? 0 : (size_t)n;
    }
    ret_text[len] = '\0';
}

static void
one_line(char *text)
{
    size_t len = strlen(text);
    while (len && (text[len - 1] == '\n' || text[len - 1] == ' '))
        text[--len] = '\0';
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < ' ')
            text[i] = ' ';
}

enum bh_code
bh_spawn_read(const char *const *argv, char *ret_text, size_t size, struct bh_error *err)
{
    static const char *const env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", NULL};
    int ends[2];
    pid_t pid;
    posix_spawn_file_actions_t actions;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return bh_fail(err, BH_E_INTERNAL, "cannot make a pipe: %s", strerror(errno));
    int rc = posix_spawn_file_actions_init(&actions);
    if (!rc) {
        rc = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        rc = rc ? rc : posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
        rc = rc ? rc : posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
        rc = rc ? rc : posix_spawn_file_actions_addclosefrom_np(&actions, 3);
        /* Where we were started the engine user may not go, and PostgreSQL's programs complain. */
        rc = rc ? rc : posix_spawn_file_actions_addchdir_np(&actions, "/");
        rc = rc ? rc : spawn_with(&actions, argv, env, &pid);
        posix_spawn_file_actions_destroy(&actions);
    }
    close(ends[1]);
    int status = 0;
    if (!rc) {
        read_pipe(ends[0], ret_text, size);
        one_line(ret_text);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            continue;
    }
    close(ends[0]);
    if (rc)
        return bh_fail(err, BH_E_CONFIG, "cannot run %s: %s", argv[0], strerror(rc));
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return bh_fail(err, BH_E_ENGINE, "%s failed: %s", argv[0], ret_text);
    return BH_OK;
}

void
bh_log_tail(const char *path, off_t from, char *ret_text, size_t size)
{
    char data[TAIL_BYTES + 1];
    ret_text[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    struct stat st = {.st_size = 0};
    if (fstat(fd, &st) != 0 || st.st_size < from)
        from = 0; /* it was set aside meanwhile */
    bool cut = st.st_size - from > TAIL_BYTES;
    ssize_t len = pread(fd, data, TAIL_BYTES, cut ? st.st_size - TAIL_BYTES : from);
    close(fd);
    if (len <= 0)
        return;
    data[len] = '\0';
    char *newline = cut ? strchr(data, '\n') : NULL; /* begin with a whole line */
    char *start = newline ? newline + 1 : data;
    size_t used = 0;
    for (char *line = strtok_r(start, "\n", &start); line; line = strtok_r(NULL, "\n", &start)) {
        int n = snprintf(ret_text + used, size - used, "%s%s", used ? " | " : "", line);
        if (n < 0 || (size_t)n >= size - used)
            break;
        used += (size_t)n;
    }
    one_line(ret_text);
}
