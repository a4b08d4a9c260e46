/*
 * Clients that keep showing wrong credentials: a bucket per address, shared by
 * all workers, so that guessing is slow and costs no tenant anything.  What has
 * verified before is found in the cache and never asks here.
 */
#include "edge/edge.h"

#include <openssl/evp.h>
#include <stdatomic.h>

#include "core/bucket.h"

#define PLACES 65536 /* a power of two; two addresses that share one share its bucket */
#define SALT_BYTES 16

struct failures {
    u_char salt[SALT_BYTES]; /* so that nobody can choose an address that shares another's place */
    _Atomic uint64_t tat_ns[PLACES];
};

static ngx_int_t
init_zone(ngx_shm_zone_t *zone, void *old)
{
    if (old != NULL) { /* a reload keeps what was counted */
        zone->data = old;
        return NGX_OK;
    }
    ngx_slab_pool_t *pool = (ngx_slab_pool_t *)(void *)zone->shm.addr;
    if (zone->shm.exists) {
        zone->data = pool->data;
        return NGX_OK;
    }
    struct failures *failures = ngx_slab_calloc(pool, sizeof(*failures));
    if (failures == NULL || !bh_edge_random(failures->salt, SALT_BYTES)) {
        return NGX_ERROR;
    }
    pool->data = failures;
    zone->data = failures;
    return NGX_OK;
}

static char bad_rate[] = "must be <n>r/s burst=<n> [loopback], both 1 to 1000000";
static char duplicate[] = "is duplicate";

static ngx_uint_t
number_of(ngx_str_t text, const char *before, const char *after)
{
    size_t head = ngx_strlen(before);
    size_t tail = ngx_strlen(after);
    if (text.len <= head + tail || ngx_strncmp(text.data, before, head) != 0 ||
        ngx_strncmp(text.data + text.len - tail, after, tail) != 0) {
        return 0;
    }
    ngx_int_t value = ngx_atoi(text.data + head, text.len - head - tail);
    return value < 1 || value > 1000000 ? 0 : (ngx_uint_t)value;
}

char *
bh_edge_failures_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    static ngx_str_t name = ngx_string("bulkhead_failed_credentials");
    struct bh_edge_server *server = conf;
    ngx_str_t *words = cf->args->elts;
    (void)cmd;
    if (server->failures != NULL) {
        return duplicate;
    }
    server->failure_rate = number_of(words[1], "", "r/s");
    server->failure_burst = number_of(words[2], "burst=", "");
    server->failure_loopback = cf->args->nelts == 4 && ngx_strcmp(words[3].data, "loopback") == 0;
    if (server->failure_rate == 0 || server->failure_burst == 0 ||
        (cf->args->nelts == 4 && !server->failure_loopback)) {
        return bad_rate;
    }
    server->failures = ngx_shared_memory_add(
        cf, &name, sizeof(struct failures) + 16 * ngx_pagesize, &ngx_http_bulkhead_module);
    if (server->failures == NULL) {
        return NGX_CONF_ERROR;
    }
    server->failures->init = init_zone;
    return NGX_CONF_OK;
}

ngx_str_t
bh_edge_address_of(struct sockaddr *sockaddr, bool *ret_loopback)
{
    static const u_char v4_mapped[12] = {[10] = 0xff, [11] = 0xff};
    *ret_loopback = sockaddr->sa_family == AF_UNIX;
    if (sockaddr->sa_family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)(void *)sockaddr;
        u_char *bytes = (u_char *)&in->sin_addr;
        *ret_loopback = bytes[0] == 127;
        return (ngx_str_t){sizeof(in->sin_addr), bytes};
    }
    if (sockaddr->sa_family == AF_INET6) {
        u_char *bytes = ((struct sockaddr_in6 *)(void *)sockaddr)->sin6_addr.s6_addr;
        if (ngx_memcmp(bytes, v4_mapped, sizeof(v4_mapped)) == 0) {
            *ret_loopback = bytes[12] == 127;
            return (ngx_str_t){4, bytes + 12};
        }
        *ret_loopback = IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)(void *)sockaddr)->sin6_addr);
        return (ngx_str_t){8, bytes};
    }
    return (ngx_str_t){0, NULL};
}

/* The bucket of the request's client; NULL where it has none. */
static _Atomic uint64_t *
bucket_of(ngx_http_request_t *r, const struct bh_edge_server *conf)
{
    bool loopback;
    u_char text[SALT_BYTES + 16];
    u_char digest[EVP_MAX_MD_SIZE];
    uint32_t place;
    if (conf->failures == NULL) {
        return NULL;
    }
    struct failures *failures = conf->failures->data;
    ngx_str_t address = bh_edge_address_of(r->connection->sockaddr, &loopback);
    if (address.len == 0 || (loopback && !conf->failure_loopback)) {
        return NULL;
    }
    ngx_memcpy(text, failures->salt, SALT_BYTES);
    ngx_memcpy(text + SALT_BYTES, address.data, address.len);
    if (EVP_Digest(text, SALT_BYTES + address.len, digest, NULL, EVP_sha256(), NULL) != 1) {
        return NULL;
    }
    memcpy(&place, digest, sizeof(place));
    return &failures->tat_ns[place & (PLACES - 1)];
}

/* One failure more, or with ${only_ask} none: does the bucket have room, and if not for how long?
 */
static struct bh_bucket_answer
take(_Atomic uint64_t *tat_ns, const struct bh_edge_server *conf, bool only_ask)
{
    uint64_t old = atomic_load_explicit(tat_ns, memory_order_relaxed);
    struct bh_bucket_answer answer;
    do {
        answer = bh_bucket_take(old, (uint32_t)conf->failure_rate, (uint32_t)conf->failure_burst,
            bh_edge_monotonic_ns());
    } while (!only_ask && answer.allowed &&
             !atomic_compare_exchange_weak_explicit(
                 tat_ns, &old, answer.tat_ns, memory_order_relaxed, memory_order_relaxed));
    return answer;
}

enum bh_code
bh_edge_failures_check(ngx_http_request_t *r, struct bh_edge_ctx *ctx, const char **ret_reason)
{
    struct bh_edge_server *conf = ngx_http_get_module_srv_conf(r, ngx_http_bulkhead_module);
    _Atomic uint64_t *tat_ns = bucket_of(r, conf);
    if (tat_ns == NULL) {
        return BH_OK;
    }
    struct bh_bucket_answer answer = take(tat_ns, conf, true);
    if (answer.allowed) {
        return BH_OK;
    }
    u_char *text = ctx->observed ? NULL : ngx_pnalloc(r->pool, NGX_INT32_LEN);
    if (text != NULL) {
        ngx_str_t wait = {0, text};
        wait.len = (size_t)(bh_edge_digits(text, ngx_max(answer.next_s, 1)) - text);
        (void)bh_edge_header_out(r, "Retry-After", wait);
    }
    *ret_reason = "too many wrong credentials came from this address";
    return BH_E_RATE_LIMITED;
}

void
bh_edge_failures_count(ngx_http_request_t *r)
{
    struct bh_edge_server *conf = ngx_http_get_module_srv_conf(r, ngx_http_bulkhead_module);
    _Atomic uint64_t *tat_ns = bucket_of(r, conf);
    if (tat_ns != NULL) {
        (void)take(tat_ns, conf, false);
    }
}
