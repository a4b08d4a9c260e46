/*
 * What people state of a tenant: the body of `PUT /v1/tenants/{id}` and the
 * tenant file, checked by the same table (core/tbl/tenant_fields.def); and the
 * same of a tier.
 */
#ifndef BH_CORE_TENANTDOC_H
#define BH_CORE_TENANTDOC_H

#include <stdint.h>

#include "core/arena.h"
#include "core/error.h"
#include "core/fields.h"
#include "core/json.h"
#include "core/str.h"

#define BH_TENANT_DOC_MAX 65536 /* bytes of a body or a file */
#define BH_TENANT_TIER "standard"
#define BH_TENANT_RATE 100
#define BH_TENANT_BURST 200
#define BH_TENANT_DOMAINS_MAX 64
#define BH_TIER_NAME_MAX 40

/* A whole document: what was absent has its default.  Strings are borrowed. */
struct bh_tenant_doc {
    struct bh_str id;
    struct bh_str name; /* default: id */
    struct bh_str tier;
    int64_t rate;                    /* limits.requests_per_second */
    int64_t burst;                   /* limits.burst */
    const struct bh_json *edge;      /* object (core/policy.h); NULL: absent, {} */
    const struct bh_json *domains;   /* strings (core/host.h), none twice; NULL: absent, [] */
    const struct bh_json *endpoints; /* strings (core/endpoint.h); NULL: absent, [] (its cell's) */
};

/* The same of a tier. */
struct bh_tier_doc {
    struct bh_str name;
    const struct bh_json *edge; /* object; NULL: absent, {} */
};

/**
 * bh_tenant_doc_read(value, path_id, issues, ret_doc):
 * Check ${value} and read it into ${ret_doc}.  ${path_id} is the id that the
 * request's path names, which a body may repeat; with data NULL (a file) the
 * document must state its id.  Everything that is wrong goes to ${issues}
 * (initialised by the caller); ${ret_doc} counts only where there is none.
 */
void bh_tenant_doc_read(const struct bh_json *value, struct bh_str path_id,
    struct bh_issues *issues, struct bh_tenant_doc *ret_doc);

/**
 * bh_tier_doc_read(value, path_name, issues, ret_doc):
 * The same for a tier: `kind` (may be absent; "tier"), `name`, `edge`.
 */
void bh_tier_doc_read(const struct bh_json *value, struct bh_str path_name,
    struct bh_issues *issues, struct bh_tier_doc *ret_doc);

/** bh_tier_doc_is(value): does the document say of itself that it is a tier (`kind: tier`)? */
bool bh_tier_doc_is(const struct bh_json *value);

/**
 * bh_tier_name_check(name, err):
 * May ${name} name a tier?  1 to 40 of a-z 0-9 - _, beginning with a letter, and not `t<digits>`,
 * which is the policy of one tenant.  Whether the tier exists only the registry knows.
 */
enum bh_code bh_tier_name_check(struct bh_str name, struct bh_error *err) BH_MUSTCHECK;

#endif
