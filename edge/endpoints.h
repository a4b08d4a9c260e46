/*
 * Sets of endpoints as this worker knows them: parsed once, with the turn of
 * each address and what is known of its health.  Health is a worker's own, as
 * in nginx without `zone`: what one worker learns costs another at most one
 * try in ten seconds, which is made again elsewhere, and no tenant's records
 * can fill a shared memory that others need.
 */
#ifndef BH_EDGE_ENDPOINTS_H
#define BH_EDGE_ENDPOINTS_H

#include "edge/edge.h"

#define BH_EDGE_CHANNELS_MAX 4

/*
 * Connections to one address that may stand in for each other: made under the
 * same TLS configuration (a location's; NULL: none) for the same name.
 */
struct bh_edge_channel {
    const void *ssl;
    uint32_t number; /* unique in this worker; 0: not in use */
#if (NGX_HTTP_SSL)
    ngx_ssl_session_t *session;
#endif
};

struct bh_edge_address {
    ngx_sockaddr_t sockaddr;
    socklen_t socklen;
    ngx_str_t name;
    ngx_str_t tls;    /* name that its certificate must have; empty: no TLS */
    ngx_uint_t group; /* number, in order of appearance */
    int32_t weight;
    int32_t current; /* smooth weighted round robin */
    bool grpc;
    bool backup;
    bool failed;
    ngx_msec_t up_at;                 /* avoid it until then, where ${failed} */
    struct bh_edge_channel *channels; /* BH_EDGE_CHANNELS_MAX; NULL: none was needed yet */
};

struct bh_edge_endpoints {
    ngx_uint_t count;
    ngx_uint_t groups;
    struct bh_edge_address addresses[];
};

/* What a request asks of its set. */
struct bh_edge_choice {
    struct bh_edge_endpoints *set;
    ngx_uint_t group;
    uint64_t tried; /* bit by address */
    bool grpc;
};

/** bh_edge_endpoints_begin(choice, set, grpc, hash): a choice among the endpoints for gRPC or for
 * the others; ${hash} picks the group, by weight, the same one for the same hash. */
void bh_edge_endpoints_begin(
    struct bh_edge_choice *choice, struct bh_edge_endpoints *set, bool grpc, uint32_t hash);

/** bh_edge_endpoints_usable(choice): how many there are. */
ngx_uint_t bh_edge_endpoints_usable(const struct bh_edge_choice *choice);

/**
 * bh_edge_endpoints_next(choice):
 * The next address, marked as tried; NULL where none is left.  First those of
 * the group that work, then its backups, then other groups', and only then
 * what failed lately.
 */
struct bh_edge_address *bh_edge_endpoints_next(struct bh_edge_choice *choice);

/** bh_edge_endpoints_untry(choice, address): it may be taken again. */
void bh_edge_endpoints_untry(struct bh_edge_choice *choice, const struct bh_edge_address *address);

/** bh_edge_address_failed(address) / bh_edge_address_works(address): what became of a try; failed
 * returns whether it was thought to work. */
bool bh_edge_address_failed(struct bh_edge_address *address);
void bh_edge_address_works(struct bh_edge_address *address);

/** bh_edge_address_channel(address, ssl): its channel under that configuration, or NULL where all
 * places are taken by others or there is no memory. */
struct bh_edge_channel *bh_edge_address_channel(struct bh_edge_address *address, const void *ssl);

/** bh_edge_channel_number(): a number that no channel had before. */
uint32_t bh_edge_channel_number(void);

/**
 * bh_edge_address_mark(address, number, ret_sockaddr):
 * The socket address with ${number} in bytes that the kernel does not read, so
 * that nginx's keepalive, which compares the bytes, keeps channels apart; returns its length.
 */
socklen_t bh_edge_address_mark(
    const struct bh_edge_address *address, uint32_t number, ngx_sockaddr_t *ret_sockaddr);

#endif
