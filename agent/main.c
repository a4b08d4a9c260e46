/*
 * bulkhead-agent: keeps a node's snapshot, counters and keys in step with the
 * control plane; with --embedded it also runs everything on one machine.
 *
 * Signals: TERM, INT: stop (embedded: the children first, app, edge, control,
 * pgbouncer, postgres).  QUIT: leave at once, the children live on and the next
 * agent adopts them.  HUP: fetch the keyring now.  Killed with -9 it leaves as
 * with QUIT.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <curl/curl.h>

#include "agent/embedded.h"
#include "agent/file.h"
#include "agent/log.h"
#include "agent/node.h"
#include "agent/site.h"
#include "agent/status.h"
#include "bh_config.h"

enum { EXIT_USAGE = 64 };

struct options {
    bool embedded;
    bool stop;
    const char *state;
    const char *base_domain;
    const char *notify_fd;
    const char *control_url;
    const char *token_file;
    const char *snapshot;
    const char *keyring;
    const char *counters;
    const char *id;
    const char *listen;
    const char *server_key[BH_SERVER_KEYS_MAX];
    size_t server_count;
    const char *ports[BH_PORT_COUNT];
};

/* One row a flag: where its value goes, and what help says. */
struct flag {
    const char *name;
    size_t offset;        /* of a const char * or a bool in struct options */
    const char *argument; /* NULL: a switch */
    const char *help;
};

#define AT(member) offsetof(struct options, member)

static const struct flag flags[] = {
    {"embedded", AT(embedded), NULL, "run all of Bulkhead on this machine"},
    {"stop", AT(stop), NULL, "stop what runs for this state, and wait (with --embedded)"},
    {"state", AT(state), "DIR", "state directory"},
    {"base-domain", AT(base_domain), "DOMAIN", "tenants are <id>.DOMAIN (localhost)"},
    {"notify-fd", AT(notify_fd), "N", "write progress as lines of JSON to this descriptor"},
    {"edge-port", AT(ports[BH_PORT_EDGE]), "N", "7080"},
    {"control-port", AT(ports[BH_PORT_CONTROL]), "N", "7070"},
    {"postgres-port", AT(ports[BH_PORT_POSTGRES]), "N", "7432"},
    {"pgbouncer-port", AT(ports[BH_PORT_PGBOUNCER]), "N", "7433"},
    {"app-port", AT(ports[BH_PORT_APP]), "N", "7090"},
    {"agent-port", AT(ports[BH_PORT_AGENT]), "N", "7081"},
    {"edge-tls-port", AT(ports[BH_PORT_EDGE_TLS]), "N", "TLS of the edge; 0: none (0)"},
    {"redis-port", AT(ports[BH_PORT_REDIS]), "N", "7379"},
    {"control-url", AT(control_url), "URL", "control plane (without --embedded, as all below)"},
    {"token-file", AT(token_file), "FILE", "agent credential"},
    {"snapshot", AT(snapshot), "DIR", "snapshot directory"},
    {"keyring", AT(keyring), "FILE", "keyring file for the edge"},
    {"counters", AT(counters), "FILE", "counters file shared with the edge"},
    {"id", AT(id), "ID", "this agent's id"},
    {"listen", AT(listen), "ADDR", "status endpoint: 127.0.0.1:PORT"},
    {"server-key", 0, "NAME=FILE:PID_FILE", "keep a PostgreSQL server's key file; repeatable"},
    {"version", 0, NULL, "print the version"},
    {"help", 0, NULL, "print this"},
};
#define FLAG_COUNT (sizeof(flags) / sizeof(flags[0]))

static int
usage(FILE *out)
{
    fputs("usage: bulkhead-agent --embedded [--state DIR] [options]\n"
          "       bulkhead-agent --embedded [--state DIR] --stop\n"
          "       bulkhead-agent --control-url URL --token-file F --snapshot DIR --keyring F\n"
          "                      --counters F --id ID --listen ADDR [--server-key ...]\n\n",
        out);
    for (size_t i = 0; i < FLAG_COUNT; i++)
        fprintf(out, "  --%-14s %-19s %s\n", flags[i].name,
            flags[i].argument ? flags[i].argument : "", flags[i].help);
    return out == stdout ? 0 : EXIT_USAGE;
}

static int
wrong(const char *format, const char *what)
{
    fputs("bulkhead-agent: ", stderr);
    fprintf(stderr, "%s %s\n", format, what);
    return EXIT_USAGE;
}

/* 0: go on; else the exit code plus one. */
static int
take_flag(struct options *options, const struct flag *flag, const char *value)
{
    char *base = (char *)options;
    if (strcmp(flag->name, "help") == 0)
        return usage(stdout) + 1;
    if (strcmp(flag->name, "version") == 0) {
        puts("bulkhead-agent " BH_VERSION " (" BH_COMMIT ")");
        return 1;
    }
    if (strcmp(flag->name, "server-key") == 0) {
        if (options->server_count == BH_SERVER_KEYS_MAX)
            return wrong("too many:", "--server-key") + 1;
        options->server_key[options->server_count++] = value;
    } else if (flag->argument) {
        memcpy(base + flag->offset, &value, sizeof(value));
    } else {
        base[flag->offset] = true;
    }
    return 0;
}

static int
parse(int argc, char **argv, struct options *options)
{
    struct option table[FLAG_COUNT + 1] = {{0}};
    for (size_t i = 0; i < FLAG_COUNT; i++)
        table[i] = (struct option){
            flags[i].name, flags[i].argument ? required_argument : no_argument, NULL, (int)i + 256};
    for (;;) {
        int found = getopt_long(argc, argv, "", table, NULL);
        if (found == -1)
            break;
        if (found < 256)
            return usage(stderr) + 1;
        int done = take_flag(options, &flags[found - 256], optarg);
        if (done)
            return done;
    }
    return optind == argc ? 0 : wrong("unknown argument", argv[optind]) + 1;
}

/* ---- embedded ---- */

static int
set_ports(const struct options *options, struct bh_site *site)
{
    for (int i = 0; i < BH_PORT_COUNT; i++) {
        const char *text = options->ports[i];
        if (!text || !text[0])
            text = getenv(bh_port_kinds[i].environment);
        uint64_t port;
        if (!text || !text[0])
            continue;
        if (!bh_str_uint(bh_str_of(text), 65535, &port) ||
            (port == 0 && bh_port_kinds[i].standard != 0))
            return wrong("a port is a number from 1 to 65535:", bh_port_kinds[i].flag);
        site->ports[i] = (uint16_t)port;
    }
    bh_site_vars(site);
    return 0;
}

static int
run_embedded(const struct options *options)
{
    static struct bh_site site;
    struct bh_error err = {.code = BH_OK};
    uint64_t fd = 0;
    if (options->notify_fd && (!bh_str_uint(bh_str_of(options->notify_fd), 1023, &fd) || fd < 3))
        return wrong("a descriptor is a number from 3 on:", "--notify-fd");
    if (bh_site_init(&site, options->state, options->base_domain, &err) != BH_OK) {
        fprintf(stderr, "bulkhead-agent: %s\n", err.detail);
        return bh_code_exit(err.code);
    }
    int bad = set_ports(options, &site);
    if (bad)
        return bad;
    return options->stop ? bh_embedded_stop(&site)
                         : bh_embedded_start(&site, options->notify_fd ? (int)fd : -1);
}

/* ---- one node of many: no children ---- */

static enum bh_code
split_server(const char *text, struct bh_arena *arena, struct bh_server_keys *ret_server,
    struct bh_error *err)
{
    struct bh_str name, rest, file, pid_file;
    if (!bh_str_cut(bh_str_of(text), '=', &name, &rest) ||
        !bh_str_cut(rest, ':', &file, &pid_file) || !name.len || !file.len || !pid_file.len)
        return bh_fail(err, BH_E_CONFIG, "--server-key needs NAME=FILE:PID_FILE");
    ret_server->name = bh_arena_strndup(arena, name.data, name.len);
    ret_server->file = bh_arena_strndup(arena, file.data, file.len);
    ret_server->pid_file = bh_arena_strndup(arena, pid_file.data, pid_file.len);
    return BH_OK;
}

static enum bh_code
read_token(const char *path, struct bh_arena *arena, const char **ret_token, struct bh_error *err)
{
    struct bh_str text;
    BH_TRY(bh_file_read(path, 4096, arena, &text, err));
    char *token = bh_arena_strndup(arena, text.data, strcspn(text.data, "\r\n"));
    if (!token || !token[0])
        return bh_fail(err, BH_E_CONFIG, "%s holds no token", path);
    *ret_token = token;
    return BH_OK;
}

static enum bh_code
configure(const struct options *o, struct bh_arena *arena, struct bh_node_config *config,
    uint16_t *ret_port, struct bh_error *err)
{
    struct bh_str host, port;
    uint64_t number;
    if (!o->control_url || !o->token_file || !o->snapshot || !o->keyring || !o->counters ||
        !o->id || !o->listen)
        return bh_fail(err, BH_E_CONFIG, "a flag is missing; see bulkhead-agent --help");
    if (!bh_str_cut(bh_str_of(o->listen), ':', &host, &port) || !bh_str_is(host, "127.0.0.1") ||
        !bh_str_uint(port, 65535, &number) || number == 0)
        return bh_fail(err, BH_E_CONFIG, "--listen must be 127.0.0.1:<port>");
    *config = (struct bh_node_config){.url = o->control_url,
        .id = o->id,
        .snapshot = o->snapshot,
        .keyring = o->keyring,
        .counters = o->counters,
        .server_count = o->server_count};
    for (size_t i = 0; i < o->server_count; i++)
        BH_TRY(split_server(o->server_key[i], arena, &config->servers[i], err));
    *ret_port = (uint16_t)number;
    return read_token(o->token_file, arena, &config->token, err);
}

static enum bh_code
start_node(const struct options *options, struct bh_node *node, struct bh_error *err)
{
    static struct bh_chunks chunks;
    static struct bh_status status;
    struct bh_node_config config;
    bh_chunks_init(&chunks);
    umask(077);
    BH_TRY(configure(options, &chunks.arena, &config, &status.port, err));
    if (prctl(PR_SET_DUMPABLE, 0) != 0)
        return bh_fail(err, BH_E_INTERNAL, "cannot forbid core dumps: %s", strerror(errno));
    BH_TRY(bh_node_open(node, &config, err));
    status.node = node;
    BH_TRY(bh_status_start(&status, err));
    return bh_node_start(node, err);
}

static int
run_node(const struct options *options)
{
    static struct bh_node node;
    struct bh_error err = {.code = BH_OK};
    static const int wanted[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGPIPE};
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        sigaddset(&set, wanted[i]);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    if (start_node(options, &node, &err) != BH_OK) {
        bh_log_error("cannot start", &err);
        return bh_code_exit(err.code);
    }
    for (;;) {
        int number = 0;
        (void)sigwait(&set, &number);
        if (number == SIGHUP)
            bh_node_refresh_keys(&node);
        else if (number != SIGPIPE)
            _exit(0); /* threads may be anywhere: nothing of theirs needs undoing */
    }
}

int
main(int argc, char **argv)
{
    static struct options options;
    int done = parse(argc, argv, &options);
    if (done)
        return done - 1;
    if (options.stop && !options.embedded)
        return wrong("--stop needs", "--embedded");
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        return 1;
    return options.embedded ? run_embedded(&options) : run_node(&options);
}
