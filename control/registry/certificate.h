/* Certificates of custom domains: who has which, and their documents in the feed. */
#ifndef BH_CONTROL_REGISTRY_CERTIFICATE_H
#define BH_CONTROL_REGISTRY_CERTIFICATE_H

#include "control/certificate.h"
#include "control/registry/registry.h"

struct bh_certificate {
    const char *name;                  /* a domain, or *. and a domain */
    const char *body;                  /* of its document */
    struct bh_certificate_facts facts; /* chain NULL: it is in ${body} */
    bool served;                       /* it covers a domain of the tenant */
    int64_t updated_us;
};

struct bh_certificate_wish {
    const char *tenant; /* id */
    const char *cell;   /* whose seal key ${body} was made with */
    const char *name;
    const char *body;
    struct bh_certificate_facts facts;
};

/**
 * bh_certificate_put(db, wish, ret_created, err):
 * Make it the certificate of its name, and tell the feed.  BH_E_NOT_FOUND (tenant), BH_E_CONFLICT
 * where the tenant is being removed, has moved to another cell meanwhile, or another tenant has
 * domains under that name and a certificate; BH_E_INVALID at /domain where it covers no domain of
 * the tenant.
 */
enum bh_code bh_certificate_put(struct bh_db *db, const struct bh_certificate_wish *wish,
    bool *ret_created, struct bh_error *err) BH_MUSTCHECK;

/** bh_certificate_get(db, arena, tenant, name, ret_certificate, err): BH_E_NOT_FOUND. */
enum bh_code bh_certificate_get(struct bh_db *db, struct bh_arena *arena, const char *tenant,
    const char *name, struct bh_certificate *ret_certificate, struct bh_error *err) BH_MUSTCHECK;

/** bh_certificate_delete(db, tenant, name, err): and its document; BH_E_NOT_FOUND. */
enum bh_code bh_certificate_delete(
    struct bh_db *db, const char *tenant, const char *name, struct bh_error *err) BH_MUSTCHECK;

struct bh_certificates {
    struct bh_certificate *items;
    size_t count;
    bool more; /* after the last */
};

/** bh_certificate_list(db, arena, tenant, list, ret_certificates, err): by name, without bodies;
 * BH_E_NOT_FOUND for the tenant. */
enum bh_code bh_certificate_list(struct bh_db *db, struct bh_arena *arena, const char *tenant,
    const struct bh_list *list, struct bh_certificates *ret_certificates,
    struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_certificates_sync(db, no, ret_seq, err):
 * Append to the feed what changed for the certificates of tenant ${no}: those that cover one of its
 * domains while it is served are there, the others are not; with the tenant they go for good.
 * Inside the caller's transaction, which holds the tenant's row.  ${ret_seq} rises to the newest
 * row that says something of them.
 */
enum bh_code bh_certificates_sync(
    struct bh_db *db, int32_t no, int64_t *ret_seq, struct bh_error *err) BH_MUSTCHECK;

#endif
