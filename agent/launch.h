/* Starting programs: own session, own log file, no inherited descriptors, a small environment. */
#ifndef BH_AGENT_LAUNCH_H
#define BH_AGENT_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "core/error.h"

/**
 * bh_spawn(argv, env, log, cwd, ret_pid, err):
 * Start ${argv}[0] (a path) as leader of a new session, stdout and stderr
 * appended to ${log} (set aside as <log>.1 where it exceeds 10 MB), stdin empty.
 */
enum bh_code bh_spawn(const char *const *argv, const char *const *env, const char *log,
    const char *cwd, pid_t *ret_pid, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_spawn_read(argv, ret_text, size, err):
 * Run a short program and wait for it; the beginning of what it prints goes
 * into ${ret_text}.  BH_E_ENGINE with that text where it does not exit with 0.
 */
enum bh_code bh_spawn_read(
    const char *const *argv, char *ret_text, size_t size, struct bh_error *err) BH_MUSTCHECK;

/** bh_log_tail(path, from, ret_text, size): the last lines of a log after its byte ${from}, parted
 * by " | ". */
void bh_log_tail(const char *path, off_t from, char *ret_text, size_t size);

#endif
