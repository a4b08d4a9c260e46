#include "agent/proc.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/log.h"
#include "core/str.h"

/* comm may hold anything, also ") ": what counts begins after the last parenthesis. */
static bool
parse_stat(char *text, struct bh_proc *ret_proc)
{
    char *open = strchr(text, '(');
    char *close = strrchr(text, ')');
    if (!open || !close || close < open)
        return false;
    *close = '\0';
    snprintf(ret_proc->name, sizeof(ret_proc->name), "%s", open + 1);
    int session, threads;
    uint64_t started;
    if (sscanf(close + 1,
            " %c %*d %*d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %d %*d %" SCNu64,
            &ret_proc->state, &session, &threads, &started) != 4)
        return false;
    /* A leader may be a zombie while its threads still hold files and ports. */
    ret_proc->dead = (ret_proc->state == 'Z' && threads <= 1) || ret_proc->state == 'X';
    ret_proc->session = session;
    ret_proc->started = started;
    return true;
}

bool
bh_proc_read(pid_t pid, struct bh_proc *ret_proc)
{
    char path[64], text[1024];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    int fd = pid > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return false;
    ssize_t len = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (len <= 0)
        return false;
    text[len] = '\0';
    ret_proc->pid = pid;
    return parse_stat(text, ret_proc);
}

bool
bh_proc_alive(pid_t pid, uint64_t started)
{
    struct bh_proc proc;
    return bh_proc_read(pid, &proc) && proc.started == started && !proc.dead;
}

bool
bh_proc_link(pid_t pid, const char *name, char *ret_path, size_t size)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    ssize_t len = readlink(path, ret_path, size - 1);
    if (len < 0)
        return false;
    ret_path[len] = '\0';
    return true;
}

void
bh_proc_each(void (*visit)(void *arg, const struct bh_proc *proc), void *arg)
{
    DIR *dir = opendir("/proc");
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        uint64_t pid;
        struct bh_proc proc;
        if (bh_str_uint(bh_str_of(entry->d_name), INT32_MAX, &pid) &&
            bh_proc_read((pid_t)pid, &proc) && !proc.dead)
            visit(arg, &proc);
    }
    closedir(dir);
}

bool
bh_proc_wait(pid_t pid, uint64_t started, int timeout_ms)
{
    int64_t until = bh_mono_us() + (int64_t)timeout_ms * 1000;
    for (;;) {
        (void)waitpid(pid, NULL, WNOHANG);
        if (!bh_proc_alive(pid, started))
            return true;
        if (bh_mono_us() >= until)
            return false;
        nanosleep(&(struct timespec){0, 5000000}, NULL);
    }
}
