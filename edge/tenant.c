/*
 * The tenants that this worker served lately, each with what its record names:
 * found without a walk through LMDB while nothing was committed since.
 */
#include "edge/edge.h"

#include "core/buf.h"

#define PLACES 65536 /* a power of two */

#define CACHE_LINE 64

struct place {
    uint64_t txn; /* of the snapshot that the tenant was read from; 0: empty */
    uint64_t generation;
    struct bh_edge_tenant tenant;
} __attribute__((aligned(CACHE_LINE)));

#define DOMAIN_PLACES 1024 /* a power of two */

struct domain_place {
    uint64_t txn;
    uint64_t generation;
    size_t len;
    char domain[BH_DOMAIN_MAX + 1];
    char id[BH_TENANT_ID_MAX + 1];
};

static struct domain_place *domain_places;
static struct place *places; /* by a hash of the id; whoever comes later takes the place */

static uint32_t
clamp(uint64_t value)
{
    return value < 1 ? 1 : value > 1000000 ? 1000000 : (uint32_t)value;
}

static void
take_limit(struct bh_edge_tenant *tenant)
{
    tenant->rate = clamp((uint64_t)tenant->record.rate * tenant->record.share / 1000);
    tenant->burst = clamp(tenant->record.burst);
    struct bh_buf text;
    bh_buf_init(&text, tenant->rate_policy, sizeof(tenant->rate_policy));
    bh_buf_puts(&text, "\"default\";q=");
    bh_buf_int(&text, tenant->burst);
    bh_buf_puts(&text, ";w=");
    bh_buf_int(&text, ((int64_t)tenant->burst + tenant->rate - 1) / tenant->rate);
    tenant->rate_policy_len = bh_buf_ok(&text) ? text.len : 0;
}

static bool
read_tenant(struct bh_str id, struct bh_edge_tenant *tenant, ngx_log_t *log)
{
    if (!bh_snapshot_get(bh_edge.snapshot, id, &tenant->record)) {
        return false;
    }
    const uint32_t *numbers = tenant->record.names;
    ngx_memcpy(tenant->id, id.data, id.len);
    tenant->id_len = id.len;
    tenant->tier = bh_edge_name(BH_NAME_TIER, numbers[BH_NAME_TIER]);
    tenant->server = bh_edge_name(BH_NAME_SERVER, numbers[BH_NAME_SERVER]);
    tenant->database = bh_edge_name(BH_NAME_DATABASE, numbers[BH_NAME_DATABASE]);
    tenant->cell = bh_edge_name(BH_NAME_CELL, numbers[BH_NAME_CELL]);
    tenant->endpoints = bh_edge_endpoints(numbers[BH_NAME_ENDPOINTS], log);
    tenant->policy = bh_edge_policy_hold(bh_edge_policy_find(numbers[BH_NAME_POLICY], log));
    take_limit(tenant);
    return true;
}

static struct place *
place_of_tenant(struct bh_str id)
{
    if (places == NULL) {
        u_char *memory = bh_edge_keep(PLACES * sizeof(*places) + CACHE_LINE);
        places = memory == NULL ? NULL : (struct place *)(void *)ngx_align_ptr(memory, CACHE_LINE);
    }
    return places == NULL ? NULL : &places[bh_edge_hash(id) & (PLACES - 1)];
}

/* A host's first label is all but always the id; where it is not, nothing is lost. */
void
bh_edge_tenant_ahead(ngx_http_request_t *r)
{
    ngx_str_t host = r->headers_in.server;
    u_char *dot = places == NULL || host.len == 0 ? NULL : memchr(host.data, '.', host.len);
    if (dot != NULL) {
        struct bh_str label = {(const char *)host.data, (size_t)(dot - host.data)};
        const char *place = (const char *)place_of_tenant(label);
        for (size_t i = 0; i < sizeof(struct place); i += CACHE_LINE) {
            __builtin_prefetch(place + i);
        }
    }
}

/* Does it hold the tenant as transaction ${txn} showed it? */
static bool
holds(const struct place *place, struct bh_str id, uint64_t txn)
{
    return place->txn == txn && place->generation == bh_edge.generation &&
           place->tenant.id_len == id.len && memcmp(place->tenant.id, id.data, id.len) == 0;
}

static void
take_from(const struct place *place, struct bh_edge_tenant *ret_tenant)
{
    *ret_tenant = place->tenant;
    (void)bh_edge_policy_hold(place->tenant.policy);
}

bool
bh_edge_tenant_again(struct bh_str id, struct bh_edge_tenant *ret_tenant)
{
    uint64_t newest = bh_snapshot_newest(bh_edge.snapshot);
    struct place *place = place_of_tenant(id);
    if (newest == 0 || newest != bh_edge.txn || place == NULL || !holds(place, id, newest)) {
        return false;
    }
    take_from(place, ret_tenant);
    return true;
}

bool
bh_edge_tenant(struct bh_str id, struct bh_edge_tenant *ret_tenant, ngx_log_t *log)
{
    uint64_t txn = bh_snapshot_txn(bh_edge.snapshot);
    struct place *place = place_of_tenant(id);
    if (place == NULL) {
        return read_tenant(id, ret_tenant, log);
    }
    if (!holds(place, id, txn)) {
        place->txn = 0;
        bh_edge_policy_drop(place->tenant.policy);
        place->tenant.policy = NULL;
        if (!read_tenant(id, &place->tenant, log)) {
            return false;
        }
        place->generation = bh_edge.generation;
        place->txn = txn;
    }
    take_from(place, ret_tenant);
    return true;
}

static struct domain_place *
place_of_domain(struct bh_str domain)
{
    if (domain_places == NULL) {
        domain_places = bh_edge_keep(DOMAIN_PLACES * sizeof(*domain_places));
    }
    return domain_places == NULL ? NULL
                                 : &domain_places[bh_edge_hash(domain) & (DOMAIN_PLACES - 1)];
}

static bool
take_domain(const struct domain_place *place, uint64_t txn, struct bh_str domain,
    char ret_id[BH_TENANT_ID_MAX + 1], size_t *ret_len)
{
    if (place == NULL || place->txn != txn || place->generation != bh_edge.generation ||
        place->len != domain.len || memcmp(place->domain, domain.data, domain.len) != 0) {
        return false;
    }
    *ret_len = strlen(place->id);
    memcpy(ret_id, place->id, *ret_len + 1);
    return true;
}

bool
bh_edge_domain_again(struct bh_str domain, char ret_id[BH_TENANT_ID_MAX + 1], size_t *ret_len)
{
    uint64_t newest = bh_snapshot_newest(bh_edge.snapshot);
    return newest != 0 && newest == bh_edge.txn &&
           take_domain(place_of_domain(domain), newest, domain, ret_id, ret_len);
}

bool
bh_edge_domain(struct bh_str domain, char ret_id[BH_TENANT_ID_MAX + 1], size_t *ret_len)
{
    uint64_t txn = bh_snapshot_txn(bh_edge.snapshot);
    struct domain_place *place = place_of_domain(domain);
    if (take_domain(place, txn, domain, ret_id, ret_len)) {
        return true;
    }
    if (!bh_snapshot_domain(bh_edge.snapshot, domain, ret_id)) {
        return false;
    }
    *ret_len = strlen(ret_id);
    if (place != NULL) {
        *place =
            (struct domain_place){.txn = txn, .generation = bh_edge.generation, .len = domain.len};
        memcpy(place->domain, domain.data, domain.len);
        memcpy(place->id, ret_id, *ret_len + 1);
    }
    return true;
}
