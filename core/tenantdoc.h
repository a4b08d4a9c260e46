/*
 * What people state of a tenant: the body of `PUT /v1/tenants/{id}` and the
 * tenant file, checked by the same table (core/tbl/tenant_fields.def).
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

/* A whole document: what was absent has its default.  Strings are borrowed. */
struct bh_tenant_doc {
    struct bh_str id;
    struct bh_str name; /* default: id */
    struct bh_str tier;
    int64_t rate;  /* limits.requests_per_second */
    int64_t burst; /* limits.burst */
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

/** bh_tenant_tier_known(tier): is it a tier that this release has? */
bool bh_tenant_tier_known(struct bh_str tier);

#endif
