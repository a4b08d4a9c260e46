/*
 * One installation on one machine: its state directory, ports and names, and
 * the values that configuration templates and command lines are made of.
 */
#ifndef BH_AGENT_SITE_H
#define BH_AGENT_SITE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent/render.h"
#include "core/arena.h"
#include "core/error.h"

enum bh_port {
    BH_PORT_EDGE,
    BH_PORT_CONTROL,
    BH_PORT_POSTGRES,
    BH_PORT_PGBOUNCER,
    BH_PORT_APP,
    BH_PORT_AGENT,
    BH_PORT_EDGE_TLS,
    BH_PORT_REDIS,
    BH_PORT_COUNT
};

/* A port: its names and its default.  One table for flags, environment, templates and
 * settings.json. */
struct bh_port_kind {
    const char *component;   /* "edge" */
    const char *variable;    /* "edge_port": placeholder and member of settings.json */
    const char *flag;        /* "--edge-port" */
    const char *environment; /* "BULKHEAD_EDGE_PORT" */
    uint16_t standard;       /* 0: off unless asked for */
};
extern const struct bh_port_kind bh_port_kinds[BH_PORT_COUNT];

#define BH_AGENT_ID "local"
#define BH_CELL "main"
#define BH_SERVER "main"
#define BH_SHARED_DATABASE "shared1"
#define BH_PG_BIN "/usr/lib/postgresql/15/bin"
#define BH_PG_MAJOR "15"
#define BH_PG_SHARE "usr/share/postgresql/15"

#define BH_VARS_MAX 24

/* Connection strings as templates: the superuser, and the pool role through the pooler. */
extern const char bh_superuser_conninfo[];
extern const char bh_pool_conninfo[];

struct bh_site {
    char state[PATH_MAX]; /* absolute */
    char shm[64];         /* directory of the counters file */
    const char *base_domain;
    uint16_t ports[BH_PORT_COUNT];
    uid_t uid; /* the engine user */
    gid_t gid;
    char port_texts[BH_PORT_COUNT][8];
    char lib[PATH_MAX];
    struct bh_var vars[BH_VARS_MAX];
    size_t var_count;
    struct bh_chunks chunks; /* texts that live as long as the site */
};

/**
 * bh_site_init(site, state, base_domain, err):
 * Fill all but ports and user; ${state} NULL: BULKHEAD_STATE, else the usual
 * place.  BH_E_CONFIG where a value cannot stand in a configuration file.
 */
enum bh_code bh_site_init(struct bh_site *site, const char *state, const char *base_domain,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_site_vars(site): (re)make the variables after ports were set. */
void bh_site_vars(struct bh_site *site);

/** bh_site_text(site, template, arena, ret_text, err): ${template} with its placeholders replaced,
 * in ${arena}. */
enum bh_code bh_site_text(const struct bh_site *site, const char *template, struct bh_arena *arena,
    const char **ret_text, struct bh_error *err) BH_MUSTCHECK;

/** bh_site_path(site, name, ret_path): "<state>/<name>". */
void bh_site_path(const struct bh_site *site, const char *name, char ret_path[PATH_MAX]);

#endif
