/* The thread that reads one database server, and what it shares with the keeper (watch.c). */
#ifndef BH_CONTROL_WATCH_READER_H
#define BH_CONTROL_WATCH_READER_H

#include <pthread.h>
#include <stdatomic.h>

#include "control/registry/watch.h"
#include "control/watch/told.h"
#include "control/watch/watch.h"

#define BH_WATCH_SERVERS_MAX 64

struct bh_reader {
    struct bh_watch *watch;
    pthread_t thread;
    char *server;
    char *conninfo;
    char *database;

    /* The thread's own: */
    struct bh_link link;
    struct bh_told told;
    struct bh_link_ring ring; /* as it was at the last reading */
    const char *state;        /* what was said last: up, limited, down; NULL: nothing yet */
    int failures;             /* in a row */
    bool registry_failed;     /* and not the server */
};

struct bh_watch {
    struct bh_watch_config config;
    struct bh_db_pool *pool;
    _Atomic bool stopping;
    int wake_fd; /* readable once the watch stops */
    char owner[96];
    pthread_t keeper;
    /* The keeper's own: */
    struct bh_reader *readers[BH_WATCH_SERVERS_MAX];
    size_t reader_count;
};

/** bh_watch_sleep(watch, ms): wait; less where the watch stops. */
void bh_watch_sleep(struct bh_watch *watch, int ms);

/** bh_watch_db(watch, ret_db, err): a connection to the registry; answers are waited for 10 s. */
enum bh_code bh_watch_db(
    struct bh_watch *watch, struct bh_db **ret_db, struct bh_error *err) BH_MUSTCHECK;

/** bh_reader_start(watch, server, ret_reader, err): a thread that reads ${server}. */
enum bh_code bh_reader_start(struct bh_watch *watch, const struct bh_watched *server,
    struct bh_reader **ret_reader, struct bh_error *err) BH_MUSTCHECK;

/** bh_reader_free(reader): after its thread has ended. */
void bh_reader_free(struct bh_reader *reader);

/** bh_watch_check(watch, place, err): run the self-check of one database and keep what it says. */
enum bh_code bh_watch_check(
    struct bh_watch *watch, const struct bh_watched *place, struct bh_error *err) BH_MUSTCHECK;

#endif
