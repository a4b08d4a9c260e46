/* One rate limit per tenant, shared by all workers through the counters file. */
#include "edge/edge.h"

#include <time.h>

#include "core/bucket.h"
#include "core/buf.h"

static uint64_t
monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static uint32_t
clamp(uint64_t value)
{
    return value < 1 ? 1 : value > 1000000 ? 1000000 : (uint32_t)value;
}

static struct bh_bucket_answer
take(_Atomic uint64_t *tat_ns, uint32_t rate, uint32_t burst)
{
    uint64_t now = monotonic_ns();
    uint64_t old = atomic_load_explicit(tat_ns, memory_order_relaxed);
    struct bh_bucket_answer answer;
    do {
        answer = bh_bucket_take(old, rate, burst, now);
    } while (answer.allowed && !atomic_compare_exchange_weak_explicit(tat_ns, &old, answer.tat_ns,
                                   memory_order_relaxed, memory_order_relaxed));
    return answer;
}

static bool
add_text(ngx_http_request_t *r, const char *name, struct bh_buf *text)
{
    u_char *copy = ngx_pnalloc(r->pool, text->len);
    if (copy == NULL || !bh_buf_ok(text)) {
        return false;
    }
    ngx_memcpy(copy, text->data, text->len);
    return bh_edge_header_out(r, name, (ngx_str_t){text->len, copy}) != NULL;
}

static bool
add_headers(ngx_http_request_t *r, uint32_t rate, uint32_t burst, struct bh_bucket_answer answer)
{
    char storage[96];
    struct bh_buf text;
    bh_buf_init(&text, storage, sizeof(storage));
    bh_buf_puts(&text, "\"default\";q=");
    bh_buf_int(&text, burst);
    bh_buf_puts(&text, ";w=");
    bh_buf_int(&text, ((int64_t)burst + rate - 1) / rate);
    if (!add_text(r, "RateLimit-Policy", &text)) {
        return false;
    }
    bh_buf_reset(&text);
    bh_buf_puts(&text, "\"default\";r=");
    bh_buf_int(&text, answer.allowed ? answer.left : 0);
    bh_buf_puts(&text, ";t=");
    bh_buf_int(&text, answer.next_s);
    if (!add_text(r, "RateLimit", &text)) {
        return false;
    }
    if (answer.allowed) {
        return true;
    }
    bh_buf_reset(&text);
    bh_buf_int(&text, answer.next_s > 1 ? answer.next_s : 1);
    return add_text(r, "Retry-After", &text);
}

enum bh_code
bh_edge_limit(ngx_http_request_t *r, struct bh_edge_ctx *ctx)
{
    uint32_t rate = clamp((uint64_t)ctx->record.rate * ctx->record.share / 1000);
    uint32_t burst = clamp(ctx->record.burst);
    struct bh_bucket_answer answer = take(&ctx->slot->tat_ns, rate, burst);
    if (!add_headers(r, rate, burst, answer)) {
        return BH_E_NO_MEMORY;
    }
    return answer.allowed ? BH_OK : BH_E_RATE_LIMITED;
}
