#include "agent/children.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/log.h"
#include "agent/ports.h"
#include "agent/proc.h"
#include "agent/launch.h"

/* ---- what is left of a process that was killed: nginx workers, server backends ---- */

struct strays {
    char program[PATH_MAX];
    char cwd[PATH_MAX];         /* of the component */
    char data[PATH_MAX];        /* a server's backends sit in the data directory */
    char initdb[PATH_MAX + 16]; /* an argument that only our initdb has */
    bool own_program;           /* lies in the state directory: its path says whose it is */
    pid_t session;
    pid_t keep; /* never this one */
    int signal;
    unsigned count;
};

/* A program that was replaced on disk shows as "<path> (deleted)". */
static bool
same_program(const char *exe, const char *program)
{
    size_t len = strlen(program);
    return strncmp(exe, program, len) == 0 && (!exe[len] || strcmp(exe + len, " (deleted)") == 0);
}

/* What hides its memory hides its links too, but not its arguments. */
static bool
arguments_say(const struct strays *strays, pid_t pid)
{
    char path[64], text[4096];
    snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0)
        close(fd);
    if (len <= 0)
        return false;
    text[len] = '\0';
    if (strays->own_program && strcmp(text, strays->program) == 0)
        return true;
    for (const char *word = text; word < text + len; word += strlen(word) + 1)
        if (strays->initdb[0] && strcmp(word, strays->initdb) == 0)
            return true;
    return false;
}

static bool
is_ours(const struct strays *strays, const struct bh_proc *proc)
{
    char path[64], exe[PATH_MAX], cwd[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof(path), "/proc/%d", (int)proc->pid);
    if (proc->pid == strays->keep || proc->pid == getpid() || stat(path, &st) != 0)
        return false;
    if ((strays->session && proc->session == strays->session) || arguments_say(strays, proc->pid))
        return true;
    return st.st_uid == geteuid() && bh_proc_link(proc->pid, "exe", exe, sizeof(exe)) &&
           same_program(exe, strays->program) && bh_proc_link(proc->pid, "cwd", cwd, sizeof(cwd)) &&
           (strcmp(cwd, strays->cwd) == 0 || strcmp(cwd, strays->data) == 0);
}

static void
signal_stray(void *arg, const struct bh_proc *proc)
{
    struct strays *strays = arg;
    if (!is_ours(strays, proc))
        return;
    strays->count++;
    if (strays->signal)
        (void)kill(proc->pid, strays->signal);
}

static unsigned
signal_strays(struct strays *strays, int signal)
{
    strays->signal = signal;
    strays->count = 0;
    bh_proc_each(signal_stray, strays);
    return strays->count;
}

static bool
wait_strays(struct strays *strays, int timeout_ms)
{
    for (int i = 0; i < timeout_ms / 10; i++) {
        if (signal_strays(strays, 0) == 0)
            return true;
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    return false;
}

static void
describe_strays(const struct bh_site *site, const struct bh_child *child, struct strays *strays)
{
    struct bh_chunks chunks;
    const char *program = "", *cwd = "";
    bh_chunks_init(&chunks);
    (void)!bh_site_text(site, child->component->argv[0], &chunks.arena, &program, NULL);
    (void)!bh_site_text(site, child->component->cwd, &chunks.arena, &cwd, NULL);
    memset(strays, 0, sizeof(*strays));
    snprintf(strays->program, sizeof(strays->program), "%s", program);
    snprintf(strays->cwd, sizeof(strays->cwd), "%s", cwd);
    bh_site_path(site, "postgres", strays->data);
    if (child->component == &bh_components[BH_POSTGRES])
        snprintf(strays->initdb, sizeof(strays->initdb), "--pgdata=%s", strays->data);
    strays->own_program = strncmp(program, site->state, strlen(site->state)) == 0;
    strays->session = child->last_session;
    strays->keep = child->pid;
    bh_chunks_fini(&chunks);
}

bool
bh_child_clear(const struct bh_site *site, const struct bh_child *child)
{
    struct strays strays;
    describe_strays(site, child, &strays);
    if (signal_strays(&strays, 0) == 0)
        return true;
    /* A server's orphans see that their master is gone and leave; the rest is told. */
    bool patient = child->component == &bh_components[BH_POSTGRES];
    if (patient && wait_strays(&strays, 1000))
        return true;
    bh_log(
        "%s: ending %u processes that an earlier one left", child->component->name, strays.count);
    (void)signal_strays(&strays, patient ? SIGQUIT : SIGTERM);
    if (wait_strays(&strays, 1000))
        return true;
    (void)signal_strays(&strays, SIGKILL);
    return wait_strays(&strays, 2000);
}

/*
 * A pid file outlives a kill.  Its pid may be a zombie that init has not reaped
 * or, after a reboot, anybody; the engine would take either for a rival.  No
 * process of this component is left when we come here, so the file lies.
 */
static void
remove_pid_file(const struct bh_site *site, const struct bh_child *child)
{
    struct bh_chunks chunks;
    const char *path;
    bh_chunks_init(&chunks);
    if (child->component->pid_file &&
        bh_site_text(site, child->component->pid_file, &chunks.arena, &path, NULL) == BH_OK &&
        unlink(path) == 0)
        bh_log("%s: removed %s, which an earlier process left", child->component->name, path);
    bh_chunks_fini(&chunks);
}

/* ---- one process ---- */

static void
log_path(const struct bh_site *site, const struct bh_child *child, char ret_path[PATH_MAX])
{
    char name[64];
    snprintf(name, sizeof(name), "log/%s.log", child->component->name);
    bh_site_path(site, name, ret_path);
}

static off_t
log_size(const struct bh_site *site, const struct bh_child *child)
{
    char path[PATH_MAX];
    struct stat st;
    log_path(site, child, path);
    return stat(path, &st) == 0 ? st.st_size : 0;
}

bool
bh_child_watch(const struct bh_site *site, struct bh_child *child)
{
    child->log_from = log_size(site, child);
    child->pidfd = pidfd_open(child->pid, 0);
    if (child->pidfd >= 0 && !bh_proc_alive(child->pid, child->started)) {
        close(child->pidfd);
        child->pidfd = -1;
    }
    return child->pidfd >= 0;
}

static enum bh_code
check_port(const struct bh_site *site, const struct bh_child *child, struct bh_error *err)
{
    enum bh_port port = child->component->port;
    if (bh_port_free(site->ports[port]))
        return BH_OK;
    return bh_port_taken(site->ports[port], child->component->name, bh_port_kinds[port].flag, err);
}

static enum bh_code
spawn(const struct bh_site *site, struct bh_child *child, struct bh_arena *arena,
    struct bh_error *err)
{
    const char *const *argv, *const *env;
    const char *cwd;
    char log[PATH_MAX];
    struct bh_proc proc;
    BH_TRY(bh_component_hash(site, child->component, child->hash, err));
    BH_TRY(bh_component_argv(site, child->component, arena, &argv, &env, err));
    BH_TRY(bh_site_text(site, child->component->cwd, arena, &cwd, err));
    log_path(site, child, log);
    child->log_from = log_size(site, child);
    BH_TRY(bh_spawn(argv, env, log, cwd, &child->pid, err));
    child->started = bh_proc_read(child->pid, &proc) ? proc.started : 0;
    child->pidfd = pidfd_open(child->pid, 0);
    return BH_OK;
}

enum bh_code
bh_child_start(const struct bh_site *site, struct bh_child *child, struct bh_error *err)
{
    struct bh_chunks chunks;
    if (!bh_child_clear(site, child)) {
        bh_fail(err, BH_E_CONFLICT, "a process of an earlier %s cannot be ended",
            child->component->name);
        return bh_hint(err, "see ps -u $(id -un) and end it");
    }
    remove_pid_file(site, child);
    BH_TRY(check_port(site, child, err));
    bh_chunks_init(&chunks);
    enum bh_code code = spawn(site, child, &chunks.arena, err);
    bh_chunks_fini(&chunks);
    return code;
}

static void
forget(struct bh_child *child)
{
    if (child->pidfd >= 0)
        close(child->pidfd);
    child->pidfd = -1;
    child->last_session = child->pid;
    child->pid = 0;
    child->started = 0;
}

void
bh_child_gone(const struct bh_site *site, struct bh_child *child, struct bh_error *err)
{
    int status = 0;
    char log[PATH_MAX], tail[400];
    bool reaped = waitpid(child->pid, &status, WNOHANG) == child->pid;
    log_path(site, child, log);
    bh_log_tail(log, child->log_from, tail, sizeof(tail));
    bool config = reaped && WIFEXITED(status) && WEXITSTATUS(status) == 78;
    if (reaped && WIFSIGNALED(status))
        bh_fail(err, BH_E_ENGINE, "%s was ended by signal %d; its log: %s", child->component->name,
            WTERMSIG(status), tail);
    else if (reaped)
        bh_fail(err, config ? BH_E_CONFIG : BH_E_ENGINE, "%s exited with status %d; its log: %s",
            child->component->name, WEXITSTATUS(status), tail);
    else
        bh_fail(err, BH_E_ENGINE, "%s ended; its log: %s", child->component->name, tail);
    bh_hint(err, "see %s", log);
    forget(child);
}

void
bh_child_stop(const struct bh_site *site, struct bh_child *child)
{
    const struct bh_component *component = child->component;
    if (child->pid && bh_proc_alive(child->pid, child->started)) {
        (void)kill(child->pid, component->stop_signal);
        if (!bh_proc_wait(child->pid, child->started, component->stop_ms)) {
            bh_log("%s: does not stop, hurrying it", component->name);
            (void)kill(child->pid, component->hurry_signal);
            if (!bh_proc_wait(child->pid, child->started, component->stop_ms))
                (void)kill(child->pid, SIGKILL);
            (void)bh_proc_wait(child->pid, child->started, 2000);
        }
    }
    if (child->pid)
        forget(child);
    (void)bh_child_clear(site, child);
}
