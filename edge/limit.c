/* One rate limit per tenant, shared by all workers through the counters file. */
#include "edge/edge.h"

#include <time.h>

uint64_t
bh_edge_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

struct bh_bucket_answer
bh_edge_limit_take(struct bh_edge_ctx *ctx)
{
    _Atomic uint64_t *tat_ns = &ctx->slot->tat_ns;
    uint64_t old = atomic_load_explicit(tat_ns, memory_order_acquire);
    struct bh_bucket_answer answer;
    do { /* the clock after the state: core/bucket.h */
        answer = bh_bucket_take(old, ctx->tenant.rate, ctx->tenant.burst, bh_edge_monotonic_ns());
    } while (answer.allowed && !atomic_compare_exchange_weak_explicit(tat_ns, &old, answer.tat_ns,
                                   memory_order_acq_rel, memory_order_acquire));
    return answer;
}

u_char *
bh_edge_digits(u_char *to, uint32_t value)
{
    u_char digits[10];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (u_char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return ngx_cpymem(to, digits + at, sizeof(digits) - at);
}

/* On every answer, so not with a formatter of a thousand instructions. */
static bool
add_headers(ngx_http_request_t *r, struct bh_edge_ctx *ctx, struct bh_bucket_answer answer)
{
    static const char left[] = "\"default\";r=";
    size_t policy_len = ctx->tenant.rate_policy_len;
    u_char *text = ngx_pnalloc(r->pool, policy_len + sizeof(left) + 40);
    if (text == NULL) {
        return false;
    }
    ngx_memcpy(text, ctx->tenant.rate_policy, policy_len);
    ngx_str_t policy = {policy_len, text};
    ngx_str_t state = {0, text + policy_len};
    u_char *end = ngx_cpymem(state.data, left, sizeof(left) - 1);
    end = bh_edge_digits(end, answer.allowed ? answer.left : 0);
    end = ngx_cpymem(end, ";t=", 3);
    end = bh_edge_digits(end, answer.next_s);
    state.len = (size_t)(end - state.data);
    if (bh_edge_header_out(r, "RateLimit-Policy", policy) == NULL ||
        bh_edge_header_out(r, "RateLimit", state) == NULL) {
        return false;
    }
    if (answer.allowed) {
        return true;
    }
    ngx_str_t wait = {0, end};
    wait.len = (size_t)(bh_edge_digits(end, answer.next_s > 1 ? answer.next_s : 1) - end);
    return bh_edge_header_out(r, "Retry-After", wait) != NULL;
}

enum bh_code
bh_edge_limit(ngx_http_request_t *r, struct bh_edge_ctx *ctx, const char **ret_reason)
{
    const struct bh_policy *policy = &ctx->tenant.policy->policy;
    uint32_t mask = policy->everywhere | (ctx->route == NULL ? 0 : ctx->route->limits);
    if (mask != 0 || policy->x_ratelimit) {
        return bh_edge_limits(r, ctx, mask, ret_reason);
    }
    struct bh_bucket_answer answer = bh_edge_limit_take(ctx);
    if (!ctx->observed && !add_headers(r, ctx, answer)) {
        return BH_E_NO_MEMORY;
    }
    return answer.allowed ? BH_OK : BH_E_RATE_LIMITED;
}
