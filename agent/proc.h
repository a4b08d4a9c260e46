/*
 * What /proc says of processes.
 *
 * A pid alone names nobody: it is used again.  A process is named by pid and
 * start time (field 22 of /proc/PID/stat, clock ticks since boot).
 */
#ifndef BH_AGENT_PROC_H
#define BH_AGENT_PROC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct bh_proc {
    pid_t pid;
    pid_t session;
    uint64_t started;
    char state;
    bool dead; /* all of it: waits only to be reaped */
    char name[32];
};

/** bh_proc_read(pid, ret_proc): false where there is no such process. */
bool bh_proc_read(pid_t pid, struct bh_proc *ret_proc);

/** bh_proc_alive(pid, started): does the very process still run?  Zombies do not. */
bool bh_proc_alive(pid_t pid, uint64_t started);

/** bh_proc_link(pid, name, ret_path, size): target of /proc/PID/<name> ("exe", "cwd"); false where
 * we may not see it. */
bool bh_proc_link(pid_t pid, const char *name, char *ret_path, size_t size);

/** bh_proc_each(visit, arg): every process that is not a zombie. */
void bh_proc_each(void (*visit)(void *arg, const struct bh_proc *proc), void *arg);

/**
 * bh_proc_wait(pid, started, timeout_ms):
 * Wait until the process is gone (reaping it where it is our child); false
 * where it still runs after ${timeout_ms}.
 */
bool bh_proc_wait(pid_t pid, uint64_t started, int timeout_ms);

#endif
