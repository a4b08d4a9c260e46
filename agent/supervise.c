#include "agent/supervise.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/children.h"
#include "agent/file.h"
#include "agent/log.h"
#include "agent/proc.h"
#include "bh_config.h"
#include "core/json.h"

#define PAUSE_FIRST_US 200000
#define PAUSE_LAST_US 10000000
#define HEALTHY_US 3000000
#define START_MAX_US 60000000
#define PROBE_US 15000
#define STATE_JSON_MAX 16384

void
bh_supervisor_init(struct bh_supervisor *supervisor, struct bh_site *site, struct bh_report *report)
{
    memset(supervisor, 0, sizeof(*supervisor));
    supervisor->site = site;
    supervisor->report = report;
    pthread_mutex_init(&supervisor->lock, NULL);
    for (int i = 0; i < BH_COMPONENT_COUNT; i++) {
        struct bh_child *child = &supervisor->children[i];
        child->component = &bh_components[i];
        child->pidfd = -1;
        child->verb = "up";
        child->pause_us = PAUSE_FIRST_US;
        bh_component_version(child->component, child->version, sizeof(child->version));
    }
}

/* ---- what others see ---- */

static const char *
state_name(enum bh_child_state state)
{
    static const char *const names[] = {[BH_CHILD_DOWN] = "down",
        [BH_CHILD_STARTING] = "starting",
        [BH_CHILD_UP] = "up",
        [BH_CHILD_STOPPING] = "stopping",
        [BH_CHILD_FAILED] = "failed"};
    return names[state];
}

struct row {
    const char *name;
    const char *state;
    pid_t pid;
    uint16_t port;
    const char *version;
    uint64_t started;
    const char *hash;
};

static void
add_row(struct bh_buf *out, const struct row *row, bool full)
{
    bh_buf_printf(out, "{\"name\":\"%s\",\"state\":\"%s\",\"pid\":", row->name, row->state);
    if (row->pid)
        bh_buf_int(out, row->pid);
    else
        bh_buf_puts(out, "null");
    bh_buf_printf(out, ",\"port\":%u,\"version\":\"%s\"", row->port, row->version);
    if (full)
        bh_buf_printf(out, ",\"started\":%" PRIu64 ",\"config\":\"%s\"", row->started, row->hash);
    bh_buf_puts(out, "}");
}

static void
add_child(struct bh_supervisor *supervisor, const char *name, bool full, struct bh_buf *out)
{
    for (int i = 0; i < BH_COMPONENT_COUNT; i++) {
        const struct bh_child *child = &supervisor->children[i];
        if (strcmp(child->component->name, name) != 0)
            continue;
        struct row row = {name, state_name(child->state), child->pid,
            supervisor->site->ports[child->component->port], child->version, child->started,
            child->hash};
        bh_buf_puts(out, ",");
        add_row(out, &row, full);
    }
}

void
bh_supervisor_json(struct bh_supervisor *supervisor, bool full, struct bh_buf *out)
{
    static const char *const order[] = {"control", "edge", "postgres", "pgbouncer", "app"};
    struct bh_proc self = {.pid = 0};
    (void)bh_proc_read(getpid(), &self);
    pthread_mutex_lock(&supervisor->lock);
    struct row agent = {"agent", supervisor->stopping ? "stopping" : "up", getpid(),
        supervisor->site->ports[BH_PORT_AGENT], BH_VERSION, self.started, ""};
    if (supervisor->gone)
        agent.state = "down", agent.pid = 0, agent.started = 0;
    bh_buf_puts(out, "\"components\":[");
    add_row(out, &agent, full);
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
        add_child(supervisor, order[i], full, out);
    bh_buf_puts(out, "]");
    pthread_mutex_unlock(&supervisor->lock);
}

void
bh_supervisor_publish(struct bh_supervisor *supervisor)
{
    char path[PATH_MAX], text[STATE_JSON_MAX];
    struct bh_buf buf;
    struct bh_error err;
    bh_buf_init(&buf, text, sizeof(text));
    bh_buf_puts(&buf, "{");
    bh_supervisor_json(supervisor, true, &buf);
    bh_buf_puts(&buf, "}\n");
    bh_site_path(supervisor->site, "run/components.json", path);
    if (!bh_buf_ok(&buf) || bh_file_put(path, bh_buf_str(&buf), 0644, NULL, &err) != BH_OK)
        bh_log("cannot write %s", path);
}

/* Every change of state goes through here. */
static void
enter(struct bh_supervisor *supervisor, struct bh_child *child, enum bh_child_state state,
    int64_t next_in_us)
{
    int64_t now = bh_mono_us();
    pthread_mutex_lock(&supervisor->lock);
    child->state = state;
    child->since_us = now;
    child->next_us = now + next_in_us;
    pthread_mutex_unlock(&supervisor->lock);
    bh_supervisor_publish(supervisor);
}

/* ---- adoption ---- */

static bool
read_child(const struct bh_json *item, struct bh_child *child)
{
    int64_t pid, started;
    const struct bh_json *hash = bh_json_get(item, "config");
    if (!bh_json_int(bh_json_get(item, "pid"), &pid) || pid <= 1 || pid > INT32_MAX ||
        !bh_json_int(bh_json_get(item, "started"), &started) || started < 0 || !hash ||
        hash->kind != BH_JSON_STRING || hash->text.len != BH_CONFIG_HASH - 1)
        return false;
    child->last_session = (pid_t)pid;
    if (!bh_proc_alive((pid_t)pid, (uint64_t)started))
        return false;
    child->pid = (pid_t)pid;
    child->started = (uint64_t)started;
    memcpy(child->hash, hash->text.data, hash->text.len);
    child->hash[hash->text.len] = '\0';
    return true;
}

static enum bh_code
adopt_one(struct bh_supervisor *supervisor, struct bh_child *child, struct bh_error *err)
{
    char hash[BH_CONFIG_HASH];
    BH_TRY(bh_component_hash(supervisor->site, child->component, hash, err));
    if (strcmp(hash, child->hash) == 0 && bh_child_watch(supervisor->site, child)) {
        child->verb = "unchanged";
        enter(supervisor, child, BH_CHILD_STARTING, 0);
        return BH_OK;
    }
    bh_log("%s: its configuration changed", child->component->name);
    child->verb = "restarted";
    enter(supervisor, child, BH_CHILD_STOPPING, 0);
    bh_child_stop(supervisor->site, child);
    enter(supervisor, child, BH_CHILD_DOWN, 0);
    return BH_OK;
}

static void
read_children(struct bh_supervisor *supervisor, const struct bh_json *list)
{
    for (const struct bh_json *item = list ? list->first : NULL; item; item = item->next) {
        const struct bh_json *name = bh_json_get(item, "name");
        for (int i = 0; name && i < BH_COMPONENT_COUNT; i++)
            if (bh_str_is(name->text, bh_components[i].name))
                (void)read_child(item, &supervisor->children[i]);
    }
}

/* Who stops was told no ports: those of the last `up` go on being shown. */
static void
read_ports(struct bh_supervisor *supervisor, const struct bh_json *list)
{
    for (const struct bh_json *item = list ? list->first : NULL; item; item = item->next) {
        const struct bh_json *name = bh_json_get(item, "name");
        int64_t port;
        if (!name || !bh_json_int(bh_json_get(item, "port"), &port) || port < 1 || port > 65535)
            continue;
        for (int i = 0; i < BH_PORT_COUNT; i++)
            if (bh_str_is(name->text, bh_port_kinds[i].component))
                supervisor->site->ports[i] = (uint16_t)port;
    }
}

static enum bh_code
find(struct bh_supervisor *supervisor, bool with_ports, struct bh_error *err)
{
    char path[PATH_MAX];
    struct bh_chunks chunks;
    struct bh_str text;
    struct bh_json *root;
    bh_site_path(supervisor->site, "run/components.json", path);
    bh_chunks_init(&chunks);
    enum bh_code code = bh_file_read(path, STATE_JSON_MAX, &chunks.arena, &text, err);
    if (code == BH_OK && bh_json_parse(text, BH_JSON_DEPTH, &chunks.arena, &root, NULL) == BH_OK) {
        read_children(supervisor, bh_json_get(root, "components"));
        if (with_ports)
            read_ports(supervisor, bh_json_get(root, "components"));
    }
    bh_chunks_fini(&chunks);
    return code == BH_E_NOT_FOUND ? BH_OK : code;
}

void
bh_supervisor_find(struct bh_supervisor *supervisor)
{
    struct bh_error err;
    if (find(supervisor, true, &err) != BH_OK)
        bh_log_error("components", &err);
}

enum bh_code
bh_supervisor_adopt(struct bh_supervisor *supervisor, struct bh_error *err)
{
    BH_TRY(find(supervisor, false, err));
    /* In the order of stopping, so that nothing that stays is left asking for what goes. */
    for (int i = 0; i < BH_COMPONENT_COUNT; i++) {
        struct bh_child *child = &supervisor->children[bh_stop_order[i]];
        if (child->pid)
            BH_TRY(adopt_one(supervisor, child, err));
    }
    return BH_OK;
}

/* ---- the life of a child ---- */

static bool
needs_met(const struct bh_supervisor *supervisor, const struct bh_child *child)
{
    for (int i = 0; i < BH_COMPONENT_COUNT; i++)
        if ((child->component->needs & 1u << i) && supervisor->children[i].state != BH_CHILD_UP)
            return false;
    return true;
}

static void
fail(struct bh_supervisor *supervisor, struct bh_child *child, const struct bh_error *err)
{
    if (child->state == BH_CHILD_UP) {
        child->failures = 0;
        if (bh_mono_us() - child->since_us > HEALTHY_US)
            child->pause_us = PAUSE_FIRST_US;
    }
    child->failures++;
    child->problem = *err;
    if (supervisor->report->parent < 0) { /* the `up` that counted is over */
        child->verb = "restarted";
        child->announced = false;
    }
    bh_report_component(supervisor->report, child->component->name, "failed", err->detail);
    enter(supervisor, child, BH_CHILD_FAILED, bh_jitter(child->pause_us));
    child->pause_us = child->pause_us * 2 > PAUSE_LAST_US ? PAUSE_LAST_US : child->pause_us * 2;
}

static void
start(struct bh_supervisor *supervisor, struct bh_child *child)
{
    struct bh_error err = {.code = BH_OK};
    if (!child->announced)
        bh_report_component(supervisor->report, child->component->name, "starting", "");
    child->announced = true;
    if (bh_child_start(supervisor->site, child, &err) == BH_OK)
        enter(supervisor, child, BH_CHILD_STARTING, PROBE_US);
    else
        fail(supervisor, child, &err);
}

/* A list of users that changed: the pooler reads it at its start. */
static void
restart_pooler(struct bh_supervisor *supervisor)
{
    struct bh_child *pooler = &supervisor->children[BH_PGBOUNCER];
    if (!pooler->pid)
        return;
    enter(supervisor, pooler, BH_CHILD_STOPPING, 0);
    bh_child_stop(supervisor->site, pooler);
    pooler->verb = "restarted";
    enter(supervisor, pooler, BH_CHILD_DOWN, 0);
}

static enum bh_code
probe_and_prepare(struct bh_supervisor *supervisor, struct bh_child *child, struct bh_error *err)
{
    bool changed = false;
    BH_TRY(child->component->probe(supervisor->site, err));
    if (child->component->prepare)
        BH_TRY(child->component->prepare(supervisor->site, &changed, err));
    if (changed)
        restart_pooler(supervisor);
    return BH_OK;
}

static void
probe(struct bh_supervisor *supervisor, struct bh_child *child)
{
    struct bh_error err = {.code = BH_OK};
    enum bh_code code = probe_and_prepare(supervisor, child, &err);
    int64_t age = bh_mono_us() - child->since_us;
    if (code == BH_OK) {
        char detail[64];
        snprintf(
            detail, sizeof(detail), "port %u", supervisor->site->ports[child->component->port]);
        enter(supervisor, child, BH_CHILD_UP, 0);
        bh_report_component(supervisor->report, child->component->name, child->verb, detail);
        return;
    }
    bool hopeless = code != BH_E_UNAVAILABLE && code != BH_E_TIMEOUT;
    if (!hopeless && age < START_MAX_US) {
        int64_t pause = age / 10 > 500000 ? 500000 : age / 10;
        child->next_us = bh_mono_us() + (pause < PROBE_US ? PROBE_US : pause);
        return;
    }
    bh_child_stop(supervisor->site, child);
    bh_hint(&err, "see %s/log/%s.log", supervisor->site->state, child->component->name);
    fail(supervisor, child, &err);
}

static void
step_child(struct bh_supervisor *supervisor, struct bh_child *child)
{
    int64_t now = bh_mono_us();
    if (child->pid && !bh_proc_alive(child->pid, child->started)) {
        struct bh_error err = {.code = BH_OK};
        bh_child_gone(supervisor->site, child, &err);
        fail(supervisor, child, &err);
        return;
    }
    bool idle = child->state == BH_CHILD_DOWN || child->state == BH_CHILD_FAILED;
    if (idle && now >= child->next_us && needs_met(supervisor, child))
        start(supervisor, child);
    else if (child->state == BH_CHILD_STARTING && now >= child->next_us)
        probe(supervisor, child);
}

int
bh_supervisor_step(struct bh_supervisor *supervisor, struct pollfd *ret_fds, unsigned *ret_count)
{
    for (int i = 0; i < BH_COMPONENT_COUNT; i++)
        step_child(supervisor, &supervisor->children[i]);
    int64_t now = bh_mono_us(), wait = 1000000;
    *ret_count = 0;
    for (int i = 0; i < BH_COMPONENT_COUNT; i++) {
        struct bh_child *child = &supervisor->children[i];
        if (child->pidfd >= 0)
            ret_fds[(*ret_count)++] = (struct pollfd){child->pidfd, POLLIN, 0};
        bool waits = child->state == BH_CHILD_STARTING ||
                     ((child->state == BH_CHILD_DOWN || child->state == BH_CHILD_FAILED) &&
                         needs_met(supervisor, child));
        if (waits && child->next_us - now < wait)
            wait = child->next_us > now ? child->next_us - now : 0;
    }
    return (int)(wait / 1000) + 1;
}

bool
bh_supervisor_up(struct bh_supervisor *supervisor)
{
    bool up = true;
    pthread_mutex_lock(&supervisor->lock);
    for (int i = 0; i < BH_COMPONENT_COUNT; i++)
        up &= supervisor->children[i].state == BH_CHILD_UP;
    pthread_mutex_unlock(&supervisor->lock);
    return up;
}

const struct bh_child *
bh_supervisor_hopeless(const struct bh_supervisor *supervisor)
{
    for (int i = 0; i < BH_COMPONENT_COUNT; i++)
        if (supervisor->children[i].failures >= 3)
            return &supervisor->children[i];
    return NULL;
}

void
bh_supervisor_stop(struct bh_supervisor *supervisor)
{
    pthread_mutex_lock(&supervisor->lock);
    supervisor->stopping = true;
    pthread_mutex_unlock(&supervisor->lock);
    for (int i = 0; i < BH_COMPONENT_COUNT; i++) {
        struct bh_child *child = &supervisor->children[bh_stop_order[i]];
        enter(supervisor, child, BH_CHILD_STOPPING, 0);
        bh_child_stop(supervisor->site, child);
        enter(supervisor, child, BH_CHILD_DOWN, 0);
    }
}

void
bh_supervisor_down(struct bh_supervisor *supervisor)
{
    supervisor->gone = true;
    bh_supervisor_publish(supervisor);
}
