/*
 * Leases of quotas: what the edge used goes to the control plane, what this edge may use comes back
 * (doc/contract/limits.md).
 *
 * Ten times a second while there is traffic this thread looks at the quota cells that were used
 * since, now and then at every one that exists.  One that will not last for the next second asks
 * for more; what is used is told every few seconds also where enough is left.  Asking twice grants
 * nothing twice, so nothing is kept but when to ask again.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/http.h"
#include "agent/log.h"
#include "agent/node.h"
#include "core/json.h"
#include "core/time.h"
#include "snapshot/limits.h"

#define LOOK_US INT64_C(100000) /* between two looks while something is used */
#define IDLE_US INT64_C(250000) /* and while nothing is */
#define BEAT_US                                                                                    \
    INT64_C(5000000) /* the control plane is asked at least this often, if for nothing */
#define TELL_US INT64_C(5000000)  /* what was used is told at least this often */
#define AGAIN_US INT64_C(1000000) /* a cell that got nothing asks again after */
#define RETRY_US INT64_C(500000)  /* after an answer that did not come */
#define TIMEOUT_MS 5000

#define ALL_US INT64_C(5000000) /* between two looks at cells that nobody used since */
#define OVER_S 60               /* after its end the control plane knows a window no more */
#define WANTS_MAX 300           /* of a post, so that it stays below 64 KiB */
#define WANT_TEXT_MAX 200

/* What this thread remembers of a cell. */
struct memory {
    uint64_t used; /* when it was last looked at */
    uint64_t told; /* when it was last told */
    int64_t told_us;
    int64_t again_us; /* not before then */
};

struct want {
    struct bh_quota *quota;
    uint64_t used;
    uint64_t more; /* what it would like to have ready; 0: it only tells */
};

struct lessee {
    struct bh_node *node;
    struct bh_http *http;
    struct bh_limits *limits;
    struct memory *memory; /* BH_QUOTA_CELLS, by the address of the cell */
    struct want wants[WANTS_MAX];
    size_t count;
    int64_t now_us;
    int64_t answered_us;
    int64_t all_us; /* when it looked at every cell */
    bool busy;      /* something was used since the last look */
};

static struct memory *
memory_of(const struct lessee *lessee, const struct bh_quota *quota)
{
    return &lessee->memory[((uintptr_t)quota / sizeof(*quota)) % BH_QUOTA_CELLS];
}

/* What should be ready beyond ${used}: a second at the pace of the last look, or a part of the
 * whole, so that a burst finds it there. */
static uint64_t
reserve(const struct bh_quota *quota, uint64_t grown)
{
    uint64_t part = atomic_load(&quota->amount) / 16;
    uint64_t second = grown * (uint64_t)(1000000 / LOOK_US);
    return (second > part ? second : part) + 1;
}

static bool
look_at(struct bh_quota *quota, void *arg)
{
    struct lessee *lessee = arg;
    struct memory *memory = memory_of(lessee, quota);
    uint64_t used = atomic_load(&quota->used);
    uint64_t leased = atomic_load(&quota->leased);
    uint64_t amount = atomic_load(&quota->amount);
    if (time(NULL) >= quota->ends_s + OVER_S) /* its cell stays for hours: nothing to ask for */
        return true;
    if (used < memory->used) /* another quota has the cell */
        *memory = (struct memory){.used = 0};
    uint64_t ready = reserve(quota, used - memory->used);
    bool short_of = leased < amount && leased < used + ready && lessee->now_us >= memory->again_us;
    bool late = used != memory->told && lessee->now_us - memory->told_us >= TELL_US;
    lessee->busy = lessee->busy || used != memory->used;
    memory->used = used;
    if (!short_of && !late)
        return true;
    uint64_t more = 2 * ready < amount ? 2 * ready : amount;
    lessee->wants[lessee->count++] = (struct want){quota, used, short_of ? more : 0};
    return lessee->count < WANTS_MAX;
}

static void
write_wants(const struct lessee *lessee, struct bh_buf *out)
{
    char start[BH_TIME_TEXT];
    bh_buf_printf(out, "{\"source\":\"%s/%016" PRIx64 "\",\"wants\":[", lessee->node->config.id,
        bh_limits_epoch(lessee->limits));
    for (size_t i = 0; i < lessee->count; i++) {
        const struct want *want = &lessee->wants[i];
        const struct bh_quota *quota = want->quota;
        bh_time_format(quota->begins_s * 1000000, start);
        bh_buf_printf(out, "%s{\"no\":%u,\"limit\":", i ? "," : "", atomic_load(&quota->cell.no));
        bh_buf_json(out, (struct bh_str){quota->name, strnlen(quota->name, sizeof(quota->name))});
        bh_buf_printf(out, ",\"window_start\":\"%s\",\"used\":%" PRIu64 ",\"want\":%" PRIu64 "}",
            start, want->used, want->more);
    }
    bh_buf_puts(out, "]}");
}

/* Is ${lease} the answer to ${want}? */
static bool
answers(const struct bh_json *lease, const struct want *want)
{
    const struct bh_quota *quota = want->quota;
    struct bh_str name, start;
    int64_t no, start_us;
    return bh_json_int(bh_json_get(lease, "no"), &no) &&
           (uint64_t)no == atomic_load(&quota->cell.no) && bh_json_string(lease, "limit", &name) &&
           name.len == strnlen(quota->name, sizeof(quota->name)) &&
           memcmp(name.data, quota->name, name.len) == 0 &&
           bh_json_string(lease, "window_start", &start) && bh_time_parse(start, &start_us) &&
           start_us == quota->begins_s * 1000000;
}

static void
take_lease(struct lessee *lessee, const struct want *want, const struct bh_json *lease)
{
    struct memory *memory = memory_of(lessee, want->quota);
    int64_t granted = 0, elsewhere = 0;
    uint64_t had = atomic_load(&want->quota->leased);
    memory->told = want->used;
    memory->told_us = lessee->now_us;
    if (lease != NULL && bh_json_int(bh_json_get(lease, "granted"), &granted) && granted >= 0 &&
        bh_json_int(bh_json_get(lease, "elsewhere"), &elsewhere) && elsewhere >= 0)
        bh_quota_lease(want->quota, (uint64_t)granted, (uint64_t)elsewhere);
    if (want->more > 0 && (uint64_t)granted <= had)
        memory->again_us = lessee->now_us + AGAIN_US;
}

/* Answers come in an order of their own, and not to all. */
static void
take_leases(struct lessee *lessee, const struct bh_json *leases)
{
    for (size_t i = 0; i < lessee->count; i++) {
        const struct bh_json *lease = leases->first;
        while (lease != NULL && !answers(lease, &lessee->wants[i]))
            lease = lease->next;
        take_lease(lessee, &lessee->wants[i], lease);
    }
}

static enum bh_code
read_answer(struct lessee *lessee, const struct bh_http_call *call, struct bh_error *err)
{
    struct bh_json *root;
    if (call->status != 200)
        return bh_fail(err, BH_E_UNAVAILABLE, "the control plane answered %ld", call->status);
    BH_TRY(bh_json_parse(call->answer, BH_JSON_DEPTH, call->arena, &root, err));
    const struct bh_json *leases = bh_json_get(root, "leases");
    if (leases == NULL || leases->kind != BH_JSON_ARRAY)
        return bh_fail(err, BH_E_INVALID, "the answer holds no leases");
    take_leases(lessee, leases);
    lessee->answered_us = bh_mono_us();
    bh_limits_renewed(lessee->limits, (uint64_t)lessee->answered_us * 1000);
    return BH_OK;
}

static enum bh_code
ask(struct lessee *lessee, struct bh_error *err)
{
    struct bh_chunks chunks;
    struct bh_buf body;
    bh_chunks_init(&chunks);
    bh_buf_init_arena(&body, &chunks.arena, (WANTS_MAX + 2) * WANT_TEXT_MAX);
    write_wants(lessee, &body);
    struct bh_str text = bh_buf_str(&body);
    struct bh_http_call call = {.method = "POST",
        .path = "/v1/leases",
        .body = &text,
        .timeout_ms = TIMEOUT_MS,
        .arena = &chunks.arena};
    enum bh_code code = bh_buf_ok(&body) ? bh_http_send(lessee->http, &call, err)
                                         : bh_fail(err, BH_E_NO_MEMORY, "no memory to ask");
    if (code == BH_OK)
        code = read_answer(lessee, &call, err);
    bh_chunks_fini(&chunks);
    return code;
}

/* The limits file of now: the edge may have made another. */
static enum bh_code
follow_file(struct lessee *lessee, struct bh_error *err)
{
    const char *counters = lessee->node->config.counters;
    if (lessee->limits != NULL && !bh_limits_replaced(lessee->limits, counters))
        return BH_OK;
    bh_limits_close(lessee->limits, true);
    lessee->limits = NULL;
    /* Anew, not cleared: pages that nobody touches cost nothing. */
    free(lessee->memory);
    lessee->memory = calloc(BH_QUOTA_CELLS, sizeof(*lessee->memory));
    if (lessee->memory == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for leases");
    return bh_limits_open(counters, false, &lessee->limits, err);
}

static enum bh_code
turn(struct lessee *lessee, struct bh_error *err)
{
    BH_TRY(follow_file(lessee, err));
    lessee->now_us = bh_mono_us();
    lessee->count = 0;
    lessee->busy = false;
    if (lessee->now_us - lessee->all_us >= ALL_US) {
        lessee->all_us = lessee->now_us;
        bh_limits_quotas(lessee->limits, look_at, lessee);
    } else {
        bh_limits_touched(lessee->limits, look_at, lessee);
    }
    if (lessee->count == 0 && lessee->now_us - lessee->answered_us < BEAT_US)
        return BH_OK;
    return ask(lessee, err);
}

void *
bh_lease_thread(void *arg)
{
    struct bh_node *node = arg;
    struct bh_error err;
    struct lessee *lessee = calloc(1, sizeof(*lessee));
    if (lessee == NULL ||
        bh_http_new(node->config.url, node->config.token, &lessee->http, &err) != BH_OK)
        abort();
    lessee->node = node;
    bool failing = false;
    for (;;) {
        err = (struct bh_error){.code = BH_OK};
        bool ok = turn(lessee, &err) == BH_OK;
        if (!ok && !failing)
            bh_log_error("leases", &err);
        failing = !ok;
        int64_t us = !ok ? RETRY_US : lessee->busy ? LOOK_US : IDLE_US;
        nanosleep(&(struct timespec){us / 1000000, us % 1000000 * 1000}, NULL);
    }
    return NULL;
}
