/*
 * The supervisor: starts the components in the order of their needs, all that
 * can in parallel; restarts what ends; adopts what an earlier agent left.
 *
 * A component is up when its probe says so.  What ends is started again after
 * 0.2 s, doubling to 10 s, back to 0.2 s after 3 s of health.
 */
#ifndef BH_AGENT_SUPERVISE_H
#define BH_AGENT_SUPERVISE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/component.h"
#include "agent/report.h"
#include "agent/site.h"
#include "core/buf.h"
#include "core/error.h"

enum bh_child_state {
    BH_CHILD_DOWN,     /* not wanted, or waits for what it needs */
    BH_CHILD_STARTING, /* runs, its probe has not passed yet */
    BH_CHILD_UP,
    BH_CHILD_STOPPING,
    BH_CHILD_FAILED, /* ended by itself; waits for its next start */
};

struct bh_child {
    const struct bh_component *component;
    enum bh_child_state state;
    pid_t pid; /* 0: none */
    uint64_t started;
    pid_t last_session; /* of the process before: what is left of it must go first */
    int pidfd;          /* -1: none */
    off_t log_from;     /* size of its log when it was started */
    bool announced;     /* "starting" was said */
    char hash[BH_CONFIG_HASH];
    char version[32];
    const char *verb; /* how an `up` calls it: "up", "unchanged", "restarted" */
    int64_t since_us; /* monotonic: of this state */
    int64_t next_us;  /* monotonic: next start or probe */
    int64_t pause_us;
    unsigned failures;       /* in a row */
    struct bh_error problem; /* the last one */
};

struct bh_supervisor {
    struct bh_site *site;
    struct bh_report *report;
    struct bh_child children[BH_COMPONENT_COUNT];
    pthread_mutex_t lock; /* over changes, for readers in other threads */
    bool stopping;
    bool gone; /* the agent is, for what is published */
};

/** bh_supervisor_init(supervisor, site, report). */
void bh_supervisor_init(
    struct bh_supervisor *supervisor, struct bh_site *site, struct bh_report *report);

/**
 * bh_supervisor_adopt(supervisor, err):
 * Take over the children that run/components.json names and that still run;
 * stop those whose configuration changed.
 */
enum bh_code bh_supervisor_adopt(
    struct bh_supervisor *supervisor, struct bh_error *err) BH_MUSTCHECK;

/** bh_supervisor_find(supervisor): learn from run/components.json which children run, and no more;
 * for who stops them. */
void bh_supervisor_find(struct bh_supervisor *supervisor);

/** bh_supervisor_step(supervisor, fds, ret_count): do all that is due; gives pollfds of what to
 * wait for (at most BH_COMPONENT_COUNT) and returns for how many ms. */
struct pollfd;
int bh_supervisor_step(
    struct bh_supervisor *supervisor, struct pollfd *ret_fds, unsigned *ret_count);

/** bh_supervisor_up(supervisor): do all components serve? */
bool bh_supervisor_up(struct bh_supervisor *supervisor);

/** bh_supervisor_hopeless(supervisor): a child that failed again and again, or NULL. */
const struct bh_child *bh_supervisor_hopeless(const struct bh_supervisor *supervisor);

/** bh_supervisor_stop(supervisor): stop every child in the order of bh_stop_order and wait. */
void bh_supervisor_stop(struct bh_supervisor *supervisor);

/** bh_supervisor_json(supervisor, full, out): append `"components":[…]` as in the status; ${full}:
 * with start times and hashes, for run/components.json. */
void bh_supervisor_json(struct bh_supervisor *supervisor, bool full, struct bh_buf *out);

/** bh_supervisor_publish(supervisor): write run/components.json. */
void bh_supervisor_publish(struct bh_supervisor *supervisor);

/** bh_supervisor_down(supervisor): write run/components.json for the last time: nothing runs, the
 * agent neither. */
void bh_supervisor_down(struct bh_supervisor *supervisor);

#endif
