/*
 * One endpoint of an application, as a tenant's record names it (doc/contract/feed.md):
 *
 *   address[;weight=N][;group=NAME][;tls=NAME][;grpc][;backup]
 *
 * address: IPv4:port, [v6]:port or unix:/path (103 bytes); no names.  Options come in any order,
 * none twice.
 */
#ifndef BH_CORE_ENDPOINT_H
#define BH_CORE_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/str.h"

#define BH_ENDPOINTS_MAX 64      /* of one tenant */
#define BH_ENDPOINT_TEXT_MAX 480 /* with its options */
#define BH_ENDPOINT_GROUP_MAX 32
#define BH_ENDPOINT_WEIGHT_MAX 1000

struct bh_endpoint {
    struct bh_str address;
    struct bh_str group; /* a version of the application; empty: of the unnamed one */
    struct bh_str tls; /* spoken to with TLS, and this is its certificate's name; empty: without */
    uint32_t weight;   /* 1 to BH_ENDPOINT_WEIGHT_MAX, 1 where nothing is said */
    bool grpc;         /* speaks gRPC (HTTP/2), and gets nothing else */
    bool backup;       /* is used while no other of its group works */
};

/**
 * bh_endpoint_parse(text, ret_endpoint, err):
 * Read one endpoint; its strings point into ${text}.  BH_E_INVALID, saying
 * which part is wrong: an unknown or repeated option, an address of another form.
 */
enum bh_code bh_endpoint_parse(
    struct bh_str text, struct bh_endpoint *ret_endpoint, struct bh_error *err) BH_MUSTCHECK;

#endif
