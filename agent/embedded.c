#include "agent/embedded.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/children.h"
#include "agent/file.h"
#include "agent/lock.h"
#include "agent/log.h"
#include "agent/node.h"
#include "agent/ports.h"
#include "agent/proc.h"
#include "agent/report.h"
#include "agent/setup.h"
#include "agent/status.h"
#include "agent/supervise.h"
#include "core/codec.h"
#include "core/json.h"

#define READY_US 60000000
#define LEAVE_MS 10000
#define STOP_MS 90000

/* Everything of a running embedded agent; it lives until the process ends. */
struct embedded {
    struct bh_site *site;
    struct bh_report report;
    struct bh_supervisor supervisor;
    struct bh_node node;
    struct bh_status status;
    struct bh_secrets secrets;
    int signals;
    bool feeding; /* the node's threads run */
    bool fresh;   /* nothing ran before us */
    int64_t deadline_us;
};

/* ---- ports, while we may still see whose they are ---- */

struct ours {
    pid_t pids[BH_COMPONENT_COUNT + 1];
    size_t count;
};

static void
read_ours(const struct bh_site *site, struct ours *ours)
{
    char path[PATH_MAX];
    struct bh_chunks chunks;
    struct bh_str text;
    struct bh_json *root;
    ours->count = 0;
    bh_site_path(site, "run/components.json", path);
    bh_chunks_init(&chunks);
    if (bh_file_read(path, 16384, &chunks.arena, &text, NULL) == BH_OK &&
        bh_json_parse(text, BH_JSON_DEPTH, &chunks.arena, &root, NULL) == BH_OK) {
        const struct bh_json *list = bh_json_get(root, "components");
        for (const struct bh_json *i = list ? list->first : NULL; i; i = i->next) {
            int64_t pid;
            if (bh_json_int(bh_json_get(i, "pid"), &pid) && pid > 1 && pid <= INT32_MAX &&
                ours->count < sizeof(ours->pids) / sizeof(ours->pids[0]))
                ours->pids[ours->count++] = (pid_t)pid;
        }
    }
    bh_chunks_fini(&chunks);
}

static bool
is_ours(const struct ours *ours, pid_t holder)
{
    struct bh_proc proc;
    if (!bh_proc_read(holder, &proc))
        return true; /* gone already */
    for (size_t i = 0; i < ours->count; i++)
        if (ours->pids[i] == holder || ours->pids[i] == proc.session)
            return true;
    return false;
}

/* Before anything is touched: what runs goes on when a port is taken. */
static enum bh_code
check_ports(const struct bh_site *site, struct bh_error *err)
{
    struct ours ours;
    read_ours(site, &ours);
    for (int i = 0; i < BH_PORT_REDIS; i++) {
        uint16_t port = site->ports[i];
        if (port == 0)
            continue;
        for (int j = 0; j < i; j++)
            if (site->ports[j] == port)
                return bh_fail(err, BH_E_CONFIG, "%s and %s cannot both use port %u",
                    bh_port_kinds[j].flag, bh_port_kinds[i].flag, port);
        pid_t holder = bh_port_free(port) ? 0 : bh_port_holder(port);
        if (holder && !is_ours(&ours, holder))
            return bh_port_taken(port, bh_port_kinds[i].component, bh_port_kinds[i].flag, err);
    }
    return BH_OK;
}

/* ---- the agent ---- */

static enum bh_code
redirect_output(const struct bh_site *site, struct bh_error *err)
{
    char path[PATH_MAX], old[PATH_MAX + 2];
    struct stat st;
    bh_site_path(site, "log/agent.log", path);
    snprintf(old, sizeof(old), "%s.1", path);
    if (stat(path, &st) == 0 && st.st_size > 10 << 20)
        (void)rename(path, old);
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (log < 0 || null < 0 || dup2(null, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0)
        return bh_fail(err, BH_E_CONFIG, "cannot open %s: %s", path, strerror(errno));
    close(log);
    close(null);
    return BH_OK;
}

static enum bh_code
take_signals(int *ret_fd, struct bh_error *err)
{
    sigset_t set;
    sigemptyset(&set);
    static const int wanted[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGCHLD, SIGPIPE};
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        sigaddset(&set, wanted[i]);
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
        return bh_fail(err, BH_E_INTERNAL, "cannot block signals: %s", strerror(errno));
    sigdelset(&set, SIGPIPE); /* blocked for good: writes fail with EPIPE instead */
    *ret_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return *ret_fd >= 0 ? BH_OK : bh_fail(err, BH_E_INTERNAL, "no signalfd: %s", strerror(errno));
}

static const char *
text_of(struct bh_site *site, const char *template)
{
    const char *text = NULL;
    if (bh_site_text(site, template, &site->chunks.arena, &text, NULL) != BH_OK)
        abort(); /* our own templates, values checked */
    return text;
}

static enum bh_code
open_node(struct embedded *e, struct bh_error *err)
{
    struct bh_site *site = e->site;
    struct bh_node_config config = {
        .url = text_of(site, "http://127.0.0.1:${control_port}"),
        .token = e->secrets.agent_token,
        .id = BH_AGENT_ID,
        .snapshot = text_of(site, "${state}/snapshot"),
        .keyring = text_of(site, "${state}/keys/edge.keyring"),
        .counters = text_of(site, "${shm}/counters"),
        .servers = {{BH_SERVER, text_of(site, "${state}/keys/server-${server}.key"),
            text_of(site, "${state}/postgres/postmaster.pid")}},
        .server_count = 1,
    };
    return bh_node_open(&e->node, &config, err);
}

static enum bh_code
open_status(struct embedded *e, struct bh_error *err)
{
    e->status = (struct bh_status){.node = &e->node,
        .supervisor = &e->supervisor,
        .site = e->site,
        .port = e->site->ports[BH_PORT_AGENT]};
    if (EVP_Digest(e->secrets.operator_token, strlen(e->secrets.operator_token),
            e->status.operator_sha256, NULL, EVP_sha256(), NULL) != 1)
        return bh_fail(err, BH_E_INTERNAL, "cannot make a digest");
    bh_wipe(e->secrets.operator_token, sizeof(e->secrets.operator_token));
    return bh_status_start(&e->status, err);
}

static enum bh_code
begin(struct embedded *e, struct bh_error *err)
{
    bool other, made;
    BH_TRY(bh_setup_drop(e->site, err));
    BH_TRY(redirect_output(e->site, err));
    BH_TRY(take_signals(&e->signals, err));
    BH_TRY(bh_lock_take(e->site, SIGQUIT, LEAVE_MS, &other, err));
    BH_TRY(bh_setup_inner(e->site, &e->secrets, err));
    bh_passwords_wipe(&e->secrets.passwords);
    bh_supervisor_init(&e->supervisor, e->site, &e->report);
    BH_TRY(bh_supervisor_adopt(&e->supervisor, err));
    e->fresh = true;
    for (int i = 0; i < BH_COMPONENT_COUNT; i++)
        e->fresh &= e->supervisor.children[i].pid == 0;
    BH_TRY(open_node(e, err));
    BH_TRY(open_status(e, err));
    bh_supervisor_publish(&e->supervisor);
    if (e->supervisor.children[BH_POSTGRES].pid)
        return BH_OK;
    bh_report_component(&e->report, "postgres", "starting", "");
    e->supervisor.children[BH_POSTGRES].announced = true;
    /* An initdb that outlived its agent would remove what the next one makes. */
    (void)bh_child_clear(e->site, &e->supervisor.children[BH_POSTGRES]);
    return bh_setup_cluster(e->site, &made, err);
}

static void
leave(struct embedded *e, int code)
{
    (void)e;
    bh_log("leaving");
    _exit(code); /* threads may be anywhere: nothing of theirs needs undoing */
}

static void
give_up(struct embedded *e, const struct bh_error *err)
{
    bh_log_error("not ready", err);
    if (e->fresh) {
        bh_supervisor_stop(&e->supervisor);
        bh_supervisor_down(&e->supervisor);
        bh_report_end(&e->report, err);
        leave(e, bh_code_exit(err->code));
    }
    bh_report_end(&e->report, err);
}

/* Is this `up` over, one way or the other? */
static void
judge(struct embedded *e)
{
    struct bh_error err = {.code = BH_OK};
    const struct bh_child *child = bh_supervisor_hopeless(&e->supervisor);
    if (bh_supervisor_up(&e->supervisor) && bh_node_ready(&e->node)) {
        bh_report_end(&e->report, NULL);
    } else if (child) {
        err = child->problem;
        give_up(e, &err);
    } else if (bh_mono_us() > e->deadline_us) {
        const char *what = "the feed";
        for (int i = 0; i < BH_COMPONENT_COUNT; i++)
            if (e->supervisor.children[i].state != BH_CHILD_UP)
                what = e->supervisor.children[i].component->name;
        bh_fail(&err, BH_E_TIMEOUT, "%s was not ready after %d s", what, READY_US / 1000000);
        bh_hint(&err, "see the logs in %s/log", e->site->state);
        give_up(e, &err);
    }
}

static void
take_signal(struct embedded *e, uint32_t number)
{
    struct bh_error err;
    if (number == SIGHUP)
        bh_node_refresh_keys(&e->node);
    if (number != SIGTERM && number != SIGINT && number != SIGQUIT)
        return;
    bh_fail(&err, BH_E_CONFLICT,
        number == SIGQUIT ? "another `bulkhead up` took over" : "stopped before all was ready");
    if (number == SIGQUIT) {
        bh_report_end(&e->report, e->report.parent >= 0 ? &err : NULL);
        leave(e, 0);
    }
    bh_log("stopping");
    bh_supervisor_stop(&e->supervisor);
    bh_supervisor_down(&e->supervisor);
    bh_report_end(&e->report, e->report.parent >= 0 ? &err : NULL);
    leave(e, 0);
}

static void
wait_events(struct embedded *e, struct pollfd *fds, unsigned count, int ms)
{
    struct signalfd_siginfo info;
    fds[count] = (struct pollfd){e->signals, POLLIN, 0};
    if (poll(fds, count + 1, ms) < 0 && errno != EINTR)
        bh_log("poll: %s", strerror(errno));
    while (read(e->signals, &info, sizeof(info)) == (ssize_t)sizeof(info))
        take_signal(e, info.ssi_signo);
}

static void
feed_when_control_is_up(struct embedded *e)
{
    struct bh_error err;
    if (e->feeding || e->supervisor.children[BH_CONTROL].state != BH_CHILD_UP)
        return;
    e->feeding = true;
    if (bh_node_start(&e->node, &err) != BH_OK) {
        bh_log_error("threads", &err);
        give_up(e, &err);
    }
}

static void
run(struct embedded *e)
{
    for (;;) {
        struct pollfd fds[BH_COMPONENT_COUNT + 1];
        unsigned count;
        int ms = bh_supervisor_step(&e->supervisor, fds, &count);
        feed_when_control_is_up(e);
        if (e->report.parent >= 0) {
            judge(e);
            ms = ms > 10 ? 10 : ms;
        }
        wait_events(e, fds, count, ms);
    }
}

static void
become_agent(struct bh_site *site, const struct bh_secrets *secrets, struct bh_report *report)
{
    static struct embedded e;
    struct bh_error err = {.code = BH_OK};
    e.site = site;
    e.secrets = *secrets;
    e.report = *report;
    e.deadline_us = bh_mono_us() + READY_US;
    setsid();
    if (begin(&e, &err) != BH_OK) {
        bh_log_error("cannot begin", &err);
        bh_report_end(&e.report, &err);
        leave(&e, bh_code_exit(err.code));
    }
    run(&e);
}

static void
complain(const struct bh_error *err)
{
    fprintf(stderr, "bulkhead-agent: %s\n", err->detail);
    if (err->hint[0])
        fprintf(stderr, "  %s\n", err->hint);
}

static int
fail_early(int notify_fd, const struct bh_error *err)
{
    struct bh_report report = {.notify = notify_fd, .parent = -1};
    if (notify_fd < 0)
        complain(err);
    bh_report_end(&report, err);
    return bh_code_exit(err->code);
}

int
bh_embedded_start(struct bh_site *site, int notify_fd)
{
    struct bh_secrets secrets;
    struct bh_error err = {.code = BH_OK};
    int ends[2];
    if (notify_fd >= 0)
        (void)fcntl(notify_fd, F_SETFD, FD_CLOEXEC);
    (void)signal(SIGPIPE, SIG_IGN);
    if (bh_setup_outer(site, &secrets, &err) != BH_OK || check_ports(site, &err) != BH_OK)
        return fail_early(notify_fd, &err);
    if (pipe2(ends, O_CLOEXEC) != 0)
        return 1;
    pid_t child = fork();
    if (child < 0) {
        bh_fail(&err, BH_E_UNAVAILABLE, "cannot fork: %s", strerror(errno));
        return fail_early(notify_fd, &err);
    }
    if (child == 0) {
        close(ends[0]);
        struct bh_report report = {notify_fd, ends[1]};
        become_agent(site, &secrets, &report);
    }
    bh_wipe(&secrets, sizeof(secrets));
    close(ends[1]);
    if (notify_fd >= 0)
        close(notify_fd);
    return bh_report_wait(ends[0]);
}

/* ---- down ---- */

static enum bh_code
stop_all(struct bh_site *site, struct bh_error *err)
{
    static struct bh_supervisor supervisor;
    struct bh_report report = {-1, -1};
    char run_path[PATH_MAX];
    struct stat st;
    bool other;
    bh_site_path(site, "run", run_path);
    if (stat(run_path, &st) != 0)
        return BH_OK; /* nothing ever ran here */
    site->uid = st.st_uid;
    site->gid = st.st_gid;
    if (geteuid() != 0 && geteuid() != st.st_uid)
        return bh_fail(err, BH_E_NOT_PERMITTED, "%s belongs to another user", site->state);
    BH_TRY(bh_setup_drop(site, err));
    BH_TRY(bh_lock_take(site, SIGTERM, STOP_MS, &other, err));
    bh_supervisor_init(&supervisor, site, &report);
    bh_supervisor_find(&supervisor);
    bh_supervisor_stop(&supervisor);
    bh_supervisor_down(&supervisor);
    return BH_OK;
}

int
bh_embedded_stop(struct bh_site *site)
{
    struct bh_error err = {.code = BH_OK};
    if (stop_all(site, &err) == BH_OK)
        return 0;
    complain(&err);
    return bh_code_exit(err.code);
}
