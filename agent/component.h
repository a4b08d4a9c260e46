/* The processes of an installation, as one table (component.c). */
#ifndef BH_AGENT_COMPONENT_H
#define BH_AGENT_COMPONENT_H

#include <stdbool.h>

#include "agent/site.h"
#include "core/error.h"

/* In the order of starting; stopping goes by `stop_order`. */
enum bh_component_id { BH_POSTGRES, BH_PGBOUNCER, BH_CONTROL, BH_EDGE, BH_APP, BH_COMPONENT_COUNT };

#define BH_ARGV_MAX 40
#define BH_FILES_MAX 6

struct bh_component {
    const char *name;
    enum bh_port port;
    const char *argv[BH_ARGV_MAX]; /* templates, NULL-terminated */
    const char *env[4];            /* templates beside the common ones */
    const char *passes_on[4];      /* variables of ours that it gets too */
    const char *cwd;               /* template */
    const char *pid_file; /* template: what would keep a successor from starting; may be NULL */
    const char *config[BH_FILES_MAX]; /* templates: files whose content counts as configuration */
    const char *version[3];           /* command that prints the version; NULL: our own */
    unsigned needs;                   /* bits of components that must be up before it starts */
    int stop_signal;
    int hurry_signal; /* after stop_ms; SIGKILL to the rest after as long again */
    int stop_ms;
    /* Does it serve?  BH_E_UNAVAILABLE: not yet. */
    enum bh_code (*probe)(const struct bh_site *site, struct bh_error *err);
    /* What is to be done once it serves, before others build on it; may be NULL. */
    enum bh_code (*prepare)(struct bh_site *site, bool *ret_changed, struct bh_error *err);
};

extern const struct bh_component bh_components[BH_COMPONENT_COUNT];
extern const enum bh_component_id bh_stop_order[BH_COMPONENT_COUNT];

/**
 * bh_component_argv(site, component, arena, ret_argv, ret_env, err):
 * Command line and environment, NULL-terminated, in ${arena}.
 */
enum bh_code bh_component_argv(const struct bh_site *site, const struct bh_component *component,
    struct bh_arena *arena, const char *const **ret_argv, const char *const **ret_env,
    struct bh_error *err) BH_MUSTCHECK;

#define BH_CONFIG_HASH 65

/** bh_component_hash(site, component, ret_hash, err): SHA-256 of all that makes a running process
 * up to date: command line, programs, files. */
enum bh_code bh_component_hash(const struct bh_site *site, const struct bh_component *component,
    char ret_hash[BH_CONFIG_HASH], struct bh_error *err) BH_MUSTCHECK;

/** bh_component_version(component, ret_version, size): what it calls itself, "" where it does not
 * say. */
void bh_component_version(const struct bh_component *component, char *ret_version, size_t size);

#endif
