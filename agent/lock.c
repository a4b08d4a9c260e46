#include "agent/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "agent/log.h"
#include "agent/proc.h"

/* The pid that the file names is believed only with its start time. */
static pid_t
read_holder(int fd)
{
    char text[64];
    ssize_t len = pread(fd, text, sizeof(text) - 1, 0);
    int pid;
    uint64_t started;
    if (len <= 0)
        return 0;
    text[len] = '\0';
    if (sscanf(text, "%d %" SCNu64, &pid, &started) != 2 || pid <= 1 ||
        !bh_proc_alive(pid, started))
        return 0;
    return pid;
}

static enum bh_code
write_holder(int fd, struct bh_error *err)
{
    char text[64];
    struct bh_proc self;
    if (!bh_proc_read(getpid(), &self))
        return bh_fail(err, BH_E_INTERNAL, "cannot read /proc: is it mounted?");
    int len = snprintf(text, sizeof(text), "%d %" PRIu64 "\n", (int)self.pid, self.started);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)len, 0) != len)
        return bh_fail(err, BH_E_UNAVAILABLE, "cannot write the lock file: %s", strerror(errno));
    return BH_OK;
}

enum bh_code
bh_lock_take(
    const struct bh_site *site, int signal, int timeout_ms, bool *ret_other, struct bh_error *err)
{
    char path[PATH_MAX];
    bh_site_path(site, "run/agent.lock", path);
    *ret_other = false;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return bh_fail(err, BH_E_CONFIG, "cannot open %s: %s", path, strerror(errno));
    int64_t until = bh_mono_us() + (int64_t)timeout_ms * 1000;
    pid_t told = 0;
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        pid_t holder = read_holder(fd);
        *ret_other = true;
        if (holder && holder != told && kill(holder, signal) != 0 && errno == EPERM) {
            close(fd);
            return bh_fail(
                err, BH_E_NOT_PERMITTED, "the agent %d belongs to another user", (int)holder);
        }
        told = holder;
        if (bh_mono_us() > until) {
            close(fd);
            bh_fail(err, BH_E_CONFLICT, "another agent (process %d) holds %s and does not leave",
                (int)holder, path);
            bh_hint(err, "see %s/log/agent.log; if it hangs: kill -9 %d", site->state, (int)holder);
            return BH_E_CONFLICT;
        }
        nanosleep(&(struct timespec){0, 5000000}, NULL);
    }
    return write_holder(fd, err); /* the descriptor stays open on purpose: it is the lock */
}
