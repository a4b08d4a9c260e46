/*
 * What the agent's threads share: where the control plane is, the snapshot's
 * writer, and how far things are.
 *
 * Threads: main (supervisor), feed, ack, keys (keyring), usage, lease, and those of
 * the status endpoint.  Each runs until the process ends; nothing of them has
 * to be undone, because the snapshot is transactional and posts are absolute.
 */
#ifndef BH_AGENT_NODE_H
#define BH_AGENT_NODE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "agent/held.h"
#include "core/buf.h"
#include "core/error.h"
#include "snapshot/counters.h"
#include "snapshot/snapshot.h"

#define BH_SERVER_KEYS_MAX 8

/* Where to put the key rows of a PostgreSQL server on this machine, and whom to tell. */
struct bh_server_keys {
    const char *name;     /* of the server, as in the keyring */
    const char *file;     /* the key file */
    const char *pid_file; /* first line: pid that gets SIGHUP */
};

struct bh_node_config {
    const char *url;      /* control plane */
    const char *token;    /* agent credential */
    const char *id;       /* ours, as the control plane knows it */
    const char *snapshot; /* directory */
    const char *keyring;  /* file for the edge */
    const char *counters; /* file shared with the edge */
    struct bh_server_keys servers[BH_SERVER_KEYS_MAX];
    size_t server_count;
};

struct bh_node {
    struct bh_node_config config;
    pthread_mutex_t writing; /* held over a transaction of the snapshot */
    struct bh_snapshot_writer *writer;
    struct bh_counters *counters;          /* by `lock` once the threads run: bh_node_counters */
    uint64_t commits;                      /* of this process, by `writing` */
    uint64_t counted;                      /* commits that ${counts} knows of */
    int64_t counts[BH_TENANT_STATE_COUNT]; /* tenants in the snapshot by state */

    struct bh_held held; /* tenants that are being moved; has a lock of its own */

    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t changed;
    struct bh_snapshot_meta meta; /* as committed */
    uint64_t keyring;             /* wanted in meta; differs until the first feed came */
    uint32_t key_epoch;           /* highest user key epoch stored; 0: none yet */
    int64_t heard_us;             /* monotonic: last sign of life of the feed while in step */
    bool in_step;                 /* connected, and all that was there at the start is applied */
    bool keyed;                   /* the keyring was fetched at least once */
    bool fetch_keys;              /* asked for: fetch the keyring now */
};

/**
 * bh_node_open(node, config, err):
 * Take the snapshot for writing and map the counters; starts no thread yet.
 * ${config}'s texts are borrowed for ever.  BH_E_CONFLICT where another agent
 * writes this snapshot.
 */
enum bh_code bh_node_open(
    struct bh_node *node, const struct bh_node_config *config, struct bh_error *err) BH_MUSTCHECK;

/** bh_node_start(node, err): start the threads. */
enum bh_code bh_node_start(struct bh_node *node, struct bh_error *err) BH_MUSTCHECK;

/** bh_node_commit(node, seq, incarnation, err): with `writing` held and a transaction open: write
 * meta, commit, and tell the other threads. */
enum bh_code bh_node_commit(struct bh_node *node, const struct bh_uid *incarnation, uint64_t seq,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_node_held(node): bring `held` up to date where it is not, unless a whole snapshot is being
 * replaced now. */
void bh_node_held(struct bh_node *node);

/** bh_node_wait(node, ms): wait for `changed`, with `lock` held, at most ${ms}. */
void bh_node_wait(struct bh_node *node, int64_t ms);

/** bh_node_refresh_keys(node): have the keyring fetched now. */
void bh_node_refresh_keys(struct bh_node *node);

/** bh_node_counters(node): the counters that the edge writes now; mapped for good. */
struct bh_counters *bh_node_counters(struct bh_node *node);

/** bh_node_ready(node): is the snapshot in step and the keyring here? */
bool bh_node_ready(struct bh_node *node);

/** bh_node_json(node, out): append `"snapshot":{…},"tenants":{…}` of the status. */
void bh_node_json(struct bh_node *node, struct bh_buf *out);

/* The bodies of the threads: ${arg} is the node; they do not return. */
void *bh_feed_thread(void *arg);
void *bh_ack_thread(void *arg);
void *bh_keys_thread(void *arg);
void *bh_usage_thread(void *arg);
void *bh_lease_thread(void *arg);

#endif
