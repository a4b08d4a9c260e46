/* A request inside the HTTP server, for server.c and worker.c alone. */
#ifndef BH_CONTROL_API_EXCHANGE_H
#define BH_CONTROL_API_EXCHANGE_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdint.h>

#include "control/api/api.h"

#define BH_API_WORKERS_MAX 64

/* A request, with the state that HTTP needs around it. */
struct bh_exchange {
    struct bh_request request;
    struct bh_reply reply;
    struct bh_chunks chunks;
    struct bh_buf body;
    struct bh_api *api;
    struct MHD_Connection *connection;
    struct bh_exchange *next; /* in the queue */
    size_t received;
    int64_t start_us;
    int64_t queued_us;
    bool begun;
    bool late; /* the server stops: not run any more */
    bool done; /* the reply is ready */
};

struct bh_api {
    struct bh_api_config config;
    struct MHD_Daemon *daemon;
    struct bh_hub *hub;
    pthread_mutex_t lock; /* of the queue */
    pthread_cond_t changed;
    struct bh_exchange *first;
    struct bh_exchange *last;
    bool stop;
    unsigned worker_count;
    pthread_t workers[BH_API_WORKERS_MAX];
};

/** bh_clock_us(): a monotonic clock in µs. */
int64_t bh_clock_us(void);

/** bh_exchange_reset(x): an empty reply, wiping a secret one that was begun. */
void bh_exchange_reset(struct bh_exchange *x);

/** bh_exchange_run(x): fill in the reply, whatever happens. */
void bh_exchange_run(struct bh_exchange *x);

/** bh_exchange_enqueue(x): suspend its connection and give it to a worker; false where the server
 * stops. */
bool bh_exchange_enqueue(struct bh_exchange *x);

/** bh_exchange_log(x): one line on standard error. */
void bh_exchange_log(const struct bh_exchange *x);

/** bh_workers_start(api, err) / bh_workers_stop(api): the threads; stop answers what is queued. */
enum bh_code bh_workers_start(struct bh_api *api, struct bh_error *err) BH_MUSTCHECK;
void bh_workers_stop(struct bh_api *api);

#endif
