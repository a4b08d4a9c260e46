/*
 * Several limits at once: those that the tenant's policy and the request's route
 * add to `default`.  All are looked at before any is taken, so that a request
 * which one of them refuses uses up nothing of the others; doc/contract/limits.md.
 */
#include "edge/edge.h"

#include "core/bucket.h"
#include "core/buf.h"
#include "snapshot/limits.h"

#define LOOK_MS 1000      /* between two looks whether the file was replaced, or can be opened */
#define SWEEP_MS 250      /* how long a dead worker's requests may count */
#define ITEM_MAX 128      /* bytes of one limit in a header: its name, its unit and two numbers */
#define ADDRESS_MARK '\0' /* before an address, which no subject begins with */

static struct bh_limits *limits;
static ngx_msec_t next_look;
static ngx_msec_t next_sweep;
static bool tried;

/* ---- the file ---- */

static void
open_limits(ngx_http_request_t *r)
{
    struct bh_edge_main *conf = ngx_http_get_module_main_conf(r, ngx_http_bulkhead_module);
    struct bh_error err;
    if (bh_limits_open((const char *)conf->counters.data, true, &limits, &err) != BH_OK) {
        limits = NULL;
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0, "bulkhead: %s", err.detail);
    }
}

/* What runs still points into a file that was replaced: it stays mapped. */
static bool
is_ready(ngx_http_request_t *r)
{
    struct bh_edge_main *conf = ngx_http_get_module_main_conf(r, ngx_http_bulkhead_module);
    if (tried && (ngx_msec_int_t)(ngx_current_msec - next_look) < 0) {
        return limits != NULL;
    }
    tried = true;
    next_look = ngx_current_msec + LOOK_MS;
    if (limits != NULL && bh_limits_replaced(limits, (const char *)conf->counters.data)) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
            "bulkhead: the limits file was replaced, opening it again");
        bh_limits_close(limits, false);
        limits = NULL;
    }
    if (limits == NULL) {
        open_limits(r);
    }
    return limits != NULL;
}

void
bh_edge_limits_close(void)
{
    bh_limits_close(limits, true);
    limits = NULL;
}

/* ---- what counts for this request ---- */

/* One request, while its limits are decided. */
struct round {
    ngx_http_request_t *r;
    struct bh_edge_ctx *ctx;
    struct bh_limit_moment moment;
    struct bh_bucket_answer general; /* of `default` */
    struct bh_limit_use *uses;
    size_t count;
    bool allowed;
};

static struct bh_str
client_of(struct round *round, u_char storage[32])
{
    bool loopback;
    ngx_str_t address = bh_edge_address_of(round->r->connection->sockaddr, &loopback);
    storage[0] = ADDRESS_MARK;
    ngx_memcpy(storage + 1, address.data, ngx_min(address.len, 31));
    return (struct bh_str){(char *)storage, 1 + ngx_min(address.len, 31)};
}

/* Of bytes: what is known already; the rest is charged at the end. */
static uint64_t
units_of(ngx_http_request_t *r, const struct bh_limit *limit)
{
    off_t body = r->headers_in.content_length_n > 0 ? r->headers_in.content_length_n : 0;
    return limit->unit == BH_UNIT_BYTES ? (uint64_t)(r->request_length + body) : 1;
}

static uint64_t
units_at_end(ngx_http_request_t *r, const struct bh_limit *limit)
{
    return limit->unit == BH_UNIT_BYTES ? (uint64_t)r->request_length : 1;
}

static bool
prepare(struct round *round, uint32_t mask)
{
    const struct bh_policy *policy = &round->ctx->tenant.policy->policy;
    u_char storage[32];
    struct bh_str address = client_of(round, storage);
    struct bh_str subject = round->ctx->believed ? (struct bh_str){(char *)round->ctx->subject.data,
                                                       round->ctx->subject.len}
                                                 : address;
    round->uses =
        ngx_palloc(round->r->pool, ((size_t)__builtin_popcount(mask) + 1) * sizeof(*round->uses));
    for (size_t i = 0; round->uses != NULL && i < policy->limit_count; i++) {
        const struct bh_limit *limit = &policy->limits[i];
        if ((mask & UINT32_C(1) << i) != 0) {
            bh_limit_use(limits, limit, &round->moment,
                limit->per == BH_PER_SUBJECT ? subject : address, units_of(round->r, limit),
                &round->uses[round->count++]);
        }
    }
    return round->uses != NULL;
}

/* ---- look, then take ---- */

static struct bh_bucket_answer
ask_general(const struct round *round)
{
    uint64_t tat = atomic_load_explicit(&round->ctx->slot->tat_ns, memory_order_relaxed);
    struct bh_bucket_answer answer = bh_bucket_take(
        tat, round->ctx->tenant.rate, round->ctx->tenant.burst, round->moment.now_ns);
    if (answer.allowed && ++answer.left >= round->ctx->tenant.burst) {
        answer.next_s = 0; /* nothing was taken */
    }
    return answer;
}

static bool
look_at_all(struct round *round)
{
    round->general = ask_general(round);
    bool allowed = round->general.allowed;
    for (size_t i = 0; i < round->count; i++) {
        bh_limit_look(limits, &round->moment, &round->uses[i]);
        allowed = allowed && round->uses[i].allowed;
    }
    return allowed;
}

/* `default` comes last, so that it never has to be given back. */
static bool
take_all(struct round *round)
{
    size_t taken = 0;
    while (taken < round->count && bh_limit_take(limits, &round->moment, &round->uses[taken])) {
        taken++;
    }
    if (taken == round->count) {
        round->general = bh_edge_limit_take(round->ctx);
        if (round->general.allowed) {
            return true;
        }
    }
    uint64_t now_ns = bh_edge_monotonic_ns();
    for (size_t i = 0; i < taken; i++) {
        bh_limit_give(&round->uses[i], now_ns);
        bh_limit_look(limits, &round->moment, &round->uses[i]);
        round->uses[i].allowed = true; /* not this one */
    }
    for (size_t i = taken + 1; i < round->count; i++) {
        bh_limit_look(limits, &round->moment, &round->uses[i]);
    }
    if (taken < round->count) {
        round->general = ask_general(round);
    }
    return false;
}

/* ---- saying it ---- */

/* On every answer of a tenant that has limits, so not with a formatter; ${to} has room. */
static u_char *
put(u_char *to, const char *text)
{
    return ngx_cpymem(to, text, ngx_strlen(text));
}

static u_char *
put_number(u_char *to, const char *before, uint64_t value)
{
    u_char digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (u_char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return ngx_cpymem(put(to, before), digits + at, sizeof(digits) - at);
}

static u_char *
put_name(u_char *to, const struct bh_limit *limit)
{
    to = ngx_cpymem(put(to, ", \""), limit->name.data, limit->name.len);
    *to++ = '"';
    return to;
}

static const char *
unit_of(const struct bh_limit *limit)
{
    if (limit->kind == BH_LIMIT_CONCURRENT) {
        return ";qu=\"concurrent-requests\"";
    }
    return limit->kind == BH_LIMIT_QUOTA && limit->unit == BH_UNIT_BYTES ? ";qu=\"content-bytes\""
                                                                         : "";
}

static u_char *
put_policies(const struct round *round, u_char *to)
{
    const struct bh_edge_tenant *tenant = &round->ctx->tenant;
    to = ngx_cpymem(to, tenant->rate_policy, tenant->rate_policy_len);
    for (size_t i = 0; i < round->count; i++) {
        const struct bh_limit_use *use = &round->uses[i];
        to = put_number(put_name(to, use->limit), ";q=", use->q);
        if (use->w_s > 0) {
            to = put_number(to, ";w=", use->w_s);
        }
        to = put(to, unit_of(use->limit));
    }
    return to;
}

static u_char *
put_states(const struct round *round, u_char *to)
{
    to = put_number(to, "\"default\";r=", round->general.allowed ? round->general.left : 0);
    to = put_number(to, ";t=", round->general.next_s);
    for (size_t i = 0; i < round->count; i++) {
        const struct bh_limit_use *use = &round->uses[i];
        to = put_number(put_name(to, use->limit), ";r=", use->allowed ? use->left : 0);
        if (use->limit->kind != BH_LIMIT_CONCURRENT) {
            to = put_number(to, ";t=", use->t_s);
        }
    }
    return to;
}

static uint64_t
longest_wait(const struct round *round)
{
    uint64_t wait = round->general.allowed ? 1 : ngx_max(round->general.next_s, 1);
    for (size_t i = 0; i < round->count; i++) {
        if (!round->uses[i].allowed) {
            wait = ngx_max(wait, round->uses[i].wait_s);
        }
    }
    return wait;
}

static bool
say(const struct round *round, const char *name, u_char *from, u_char *to)
{
    return bh_edge_header_out(round->r, name, (ngx_str_t){(size_t)(to - from), from}) != NULL;
}

static bool
say_number(const struct round *round, const char *name, uint64_t value)
{
    u_char *data = ngx_pnalloc(round->r->pool, NGX_INT64_LEN);
    return data != NULL && say(round, name, data, put_number(data, "", value));
}

#define OLD_PREFIX "X-RateLimit-"
#define OLD_COUNT 3

/* The old headers know one limit: the one that is nearest to its end. */
static bool
say_tightest(const struct round *round)
{
    uint64_t q = round->ctx->tenant.burst;
    uint64_t left = round->general.allowed ? round->general.left : 0;
    uint64_t t_s = round->general.next_s;
    for (size_t i = 0; i < round->count; i++) {
        const struct bh_limit_use *use = &round->uses[i];
        uint64_t rest = use->allowed ? use->left : 0;
        if (use->limit->unit == BH_UNIT_REQUESTS && rest < left) {
            q = use->q;
            left = rest;
            t_s = use->t_s;
        }
    }
    return say_number(round, "X-RateLimit-Limit", q) &&
           say_number(round, "X-RateLimit-Remaining", left) &&
           say_number(round, "X-RateLimit-Reset", t_s);
}

void
bh_edge_limits_alone(ngx_http_request_t *r, const struct bh_edge_ctx *ctx)
{
    size_t ours = 0;
    ngx_list_part_t *part = &r->headers_out.headers.part;
    if (ctx->tenant.policy == NULL || !ctx->tenant.policy->policy.x_ratelimit) {
        return;
    }
    for (; part != NULL; part = part->next) {
        ngx_table_elt_t *headers = part->elts;
        for (ngx_uint_t i = 0; i < part->nelts; i++) {
            if (headers[i].key.len > sizeof(OLD_PREFIX) - 1 &&
                ngx_strncasecmp(
                    headers[i].key.data, (u_char *)OLD_PREFIX, sizeof(OLD_PREFIX) - 1) == 0 &&
                ++ours > OLD_COUNT) {
                headers[i].hash = 0; /* said after us: by the application */
            }
        }
    }
}

static bool
say_headers(const struct round *round)
{
    size_t size = (round->count + 1) * ITEM_MAX;
    u_char *data = ngx_pnalloc(round->r->pool, 2 * size);
    if (data == NULL) {
        return false;
    }
    u_char *states = put_policies(round, data);
    return say(round, "RateLimit-Policy", data, states) &&
           say(round, "RateLimit", states, put_states(round, states)) &&
           (!round->ctx->tenant.policy->policy.x_ratelimit || say_tightest(round)) &&
           (round->allowed || say_number(round, "Retry-After", longest_wait(round)));
}

/* ["daily","reads"] for the problem; they are what the policy's parser lets be names. */
static bool
note_violated(struct round *round)
{
    size_t size = (round->count + 1) * (BH_QUOTA_NAME_MAX + 3) + 2;
    char *data = ngx_pnalloc(round->r->pool, size);
    struct bh_buf out;
    if (data == NULL) {
        return false;
    }
    bh_buf_init(&out, data, size);
    bh_buf_puts(&out, round->general.allowed ? "[" : "[\"default\",");
    for (size_t i = 0; i < round->count; i++) {
        if (!round->uses[i].allowed) {
            bh_buf_json(&out, round->uses[i].limit->name);
            bh_buf_puts(&out, ",");
        }
    }
    if (!bh_buf_ok(&out)) {
        return false;
    }
    data[out.len - 1] = ']';
    round->ctx->violated = (struct bh_str){data, out.len};
    return true;
}

static enum bh_code
refusal(struct round *round)
{
    for (size_t i = 0; i < round->count; i++) {
        if (!round->uses[i].allowed && round->uses[i].limit->kind == BH_LIMIT_QUOTA) {
            return BH_E_QUOTA_EXCEEDED;
        }
    }
    return BH_E_RATE_LIMITED;
}

static void
sweep(void)
{
    if ((ngx_msec_int_t)(ngx_current_msec - next_sweep) >= 0) {
        next_sweep = ngx_current_msec + SWEEP_MS;
        bh_limits_sweep(limits);
    }
}

enum bh_code
bh_edge_limits(
    ngx_http_request_t *r, struct bh_edge_ctx *ctx, uint32_t mask, const char **ret_reason)
{
    struct round round = {.r = r, .ctx = ctx};
    if (!is_ready(r)) {
        *ret_reason = "the edge cannot open its limits file";
        return BH_E_NOT_READY;
    }
    sweep();
    round.moment = (struct bh_limit_moment){.now_ns = bh_edge_monotonic_ns(),
        .clock = bh_edge_monotonic_ns,
        .wall_s = ngx_time(),
        .no = (uint32_t)ctx->tenant.record.no,
        .share = ctx->tenant.record.share};
    if (!prepare(&round, mask)) {
        return BH_E_NO_MEMORY;
    }
    round.allowed = look_at_all(&round) && take_all(&round);
    if (round.allowed) {
        ctx->uses = round.uses;
        ctx->use_count = round.count;
    }
    if (!ctx->observed && (!say_headers(&round) || (!round.allowed && !note_violated(&round)))) {
        return BH_E_NO_MEMORY;
    }
    return round.allowed ? BH_OK : refusal(&round);
}

void
bh_edge_limits_settle(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    for (size_t i = 0; i < ctx->use_count; i++) {
        struct bh_limit_use *use = &ctx->uses[i];
        bh_limit_settle(use, r == NULL ? use->units : units_at_end(r, use->limit));
    }
}
