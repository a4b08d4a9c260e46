/* Requests on their way through a worker thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "control/api/exchange.h"
#include "control/api/log.h"
#include "control/api/problem.h"
#include "core/codec.h"

#define ANSWER_MAX ((size_t)64 << 20)
#define QUEUE_MAX_US (INT64_C(10) * 1000000) /* who waited longer for a worker has given up */
#define RETRY_MAX_US (INT64_C(2) * 1000000)

int64_t
bh_clock_us(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void
bh_exchange_reset(struct bh_exchange *x)
{
    struct bh_reply *reply = &x->reply;

    if (reply->secret)
        bh_wipe(reply->body.data, reply->body.len);
    *reply = (struct bh_reply){.status = 200, .content_type = "application/json", .fd = -1};
    bh_buf_init_arena(&reply->body, &x->chunks.arena, ANSWER_MAX);
    x->request.query.count = 0;
    x->request.principal = (struct bh_principal){0};
    bh_issues_init(&x->request.issues, &x->chunks.arena);
}

static enum bh_code
run_once(struct bh_exchange *x, bool *ret_reached, struct bh_error *err)
{
    enum bh_code code;

    bh_exchange_reset(x);
    code = bh_route_run(&x->request, &x->reply, err);
    if (code == BH_OK && !bh_buf_ok(&x->reply.body))
        code = bh_fail(err, BH_E_NO_MEMORY, "the answer is too large");
    *ret_reached = x->request.db != NULL;
    bh_db_give(x->request.db);
    x->request.db = NULL;
    return code;
}

/* What a client is told of a failure inside: nothing but that it happened; the log has the rest. */
static void
hide_details(struct bh_exchange *x, struct bh_error *err)
{
    if (bh_code_http(err->code) != 500)
        return;
    bh_log("api", "request %s failed: %s", x->request.id, err->detail);
    (void)bh_fail(err, err->code, "the control plane failed; its log has the request_id");
}

static void
write_problem(struct bh_exchange *x, struct bh_error *err)
{
    struct bh_reply *reply = &x->reply;
    const struct bh_issues *issues = err->code == BH_E_INVALID ? &x->request.issues : NULL;

    hide_details(x, err);
    if (reply->secret)
        bh_wipe(reply->body.data, reply->body.len);
    reply->secret = false;
    reply->status = bh_code_http(err->code);
    reply->content_type = BH_PROBLEM_CONTENT_TYPE;
    bh_buf_init_arena(&reply->body, &x->chunks.arena, ANSWER_MAX);
    bh_problem_write(&reply->body, err, issues, x->request.id);
}

static enum bh_code
run_in_time(struct bh_exchange *x, struct bh_error *err)
{
    bool reached;
    enum bh_code code;

    if (x->late)
        return bh_fail(err, BH_E_UNAVAILABLE, "the control plane is stopping");
    if (bh_clock_us() - x->queued_us > QUEUE_MAX_US)
        return bh_fail(err, BH_E_UNAVAILABLE, "the control plane is too busy");
    code = run_once(x, &reached, err);
    /*
     * Everything that a route does may be done twice with the same effect, so a
     * registry connection that broke meanwhile is worth one more try.  Where it
     * broke just after the commit of a PUT with a precondition, that try says 412.
     */
    if (code == BH_E_UNAVAILABLE && reached && bh_clock_us() - x->queued_us < RETRY_MAX_US)
        code = run_once(x, &reached, err);
    return code;
}

void
bh_exchange_run(struct bh_exchange *x)
{
    struct bh_error err;

    if (run_in_time(x, &err) != BH_OK)
        write_problem(x, &err);
    x->done = true;
}

static struct bh_exchange *
take_job(struct bh_api *api)
{
    struct bh_exchange *x;

    (void)pthread_mutex_lock(&api->lock);
    while (api->first == NULL && !api->stop)
        (void)pthread_cond_wait(&api->changed, &api->lock);
    x = api->first;
    if (x != NULL) {
        api->first = x->next;
        if (api->first == NULL)
            api->last = NULL;
        x->late = api->stop;
    }
    (void)pthread_mutex_unlock(&api->lock);
    return x;
}

static void *
work(void *arg)
{
    struct bh_api *api = arg;
    struct bh_exchange *x;

    while ((x = take_job(api)) != NULL) {
        bh_exchange_run(x);
        MHD_resume_connection(x->connection);
    }
    return NULL;
}

/* The path as it came, without the query, which may hold names of people. */
void
bh_exchange_log(const struct bh_exchange *x)
{
    char storage[BH_LOG_LINE_MAX];
    char number[32];
    char path[256];
    struct bh_buf buf;
    int64_t us = bh_clock_us() - x->start_us;

    bh_log_begin(&buf, storage, sizeof(storage));
    bh_log_value(&buf, "request_id", x->request.id);
    bh_log_value(&buf, "method", x->request.method);
    (void)snprintf(path, sizeof(path), "%.*s", (int)x->request.path.len, x->request.path.data);
    bh_log_value(&buf, "path", path);
    (void)snprintf(number, sizeof(number), "%d", x->reply.status);
    bh_log_value(&buf, "status", number);
    (void)snprintf(number, sizeof(number), "%.1f", (double)us / 1000);
    bh_log_value(&buf, "ms", number);
    if (x->request.principal.id != NULL)
        bh_log_value(&buf, "principal", x->request.principal.id);
    bh_log_end(&buf);
}

bool
bh_exchange_enqueue(struct bh_exchange *x)
{
    struct bh_api *api = x->api;
    bool taken;

    (void)pthread_mutex_lock(&api->lock);
    taken = !api->stop;
    if (taken) {
        MHD_suspend_connection(x->connection);
        x->next = NULL;
        if (api->last == NULL)
            api->first = x;
        else
            api->last->next = x;
        api->last = x;
        (void)pthread_cond_signal(&api->changed);
    }
    (void)pthread_mutex_unlock(&api->lock);
    return taken;
}

enum bh_code
bh_workers_start(struct bh_api *api, struct bh_error *err)
{
    unsigned count =
        api->config.workers < BH_API_WORKERS_MAX ? api->config.workers : BH_API_WORKERS_MAX;

    for (; api->worker_count < count; api->worker_count++)
        if (pthread_create(&api->workers[api->worker_count], NULL, work, api) != 0)
            return bh_fail(err, BH_E_INTERNAL, "cannot start a worker thread");
    return BH_OK;
}

void
bh_workers_stop(struct bh_api *api)
{
    (void)pthread_mutex_lock(&api->lock);
    api->stop = true;
    (void)pthread_cond_broadcast(&api->changed);
    (void)pthread_mutex_unlock(&api->lock);
    for (unsigned i = 0; i < api->worker_count; i++)
        (void)pthread_join(api->workers[i], NULL);
}
