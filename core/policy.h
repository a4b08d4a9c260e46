/*
 * What a tier or a tenant says to the edge: who vouches for its people, what they may ask
 * for, and how much of it.  One JSON object: the member `edge` of a tier and of a tenant
 * (people write it), and the body of a document `policy/<name>` (the edge reads it).
 * doc/contract/policy.md shows every member with its default.
 *
 * Absent members have their defaults, so `{}` is the policy of a tenant that says nothing.
 */
#ifndef BH_CORE_POLICY_H
#define BH_CORE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/error.h"
#include "core/fields.h"
#include "core/json.h"
#include "core/str.h"
#include "core/words.h"

#define BH_POLICY_LIMITS_MAX 16
#define BH_POLICY_ROUTES_MAX 256
#define BH_POLICY_WORDS_MAX 32

/* Who checks the credentials of a tenant's people. */
enum bh_policy_auth {
    BH_AUTH_EDGE, /* "edge": the edge does, and keeps them */
    BH_AUTH_APP   /* "app": the application does, Authorization passes untouched */
};

enum bh_limit_kind {
    BH_LIMIT_RATE,      /* requests_per_second with burst: GCRA */
    BH_LIMIT_QUOTA,     /* so many in a calendar window (UTC) */
    BH_LIMIT_CONCURRENT /* so many at once */
};

/* Whose use is added up. */
enum bh_limit_per {
    BH_PER_TENANT,
    BH_PER_SUBJECT, /* of the credential; anonymous requests: the address */
    BH_PER_ADDRESS  /* of the client: IPv4 address, IPv6 /64 */
};

enum bh_limit_window { BH_WINDOW_HOUR, BH_WINDOW_DAY, BH_WINDOW_MONTH };

enum bh_limit_unit {
    BH_UNIT_REQUESTS,
    BH_UNIT_BYTES /* of the request, head and body */
};

struct bh_limit {
    struct bh_str name; /* as RateLimit-Policy shows it; unique, never "default" */
    enum bh_limit_kind kind;
    enum bh_limit_per per;
    enum bh_limit_window window; /* quota */
    enum bh_limit_unit unit;     /* quota */
    bool continue_when_lost;     /* quota: without the control plane go on beyond the last lease */
    int64_t rate;                /* rate: requests a second */
    int64_t amount;              /* rate: burst; quota: units in the window; concurrent: requests */
};

/* A rule for requests; the first one that matches counts. */
struct bh_route {
    struct bh_str name;      /* default: its path */
    struct bh_str path;      /* "/a/b"; a segment `*` is any one, a last segment `**` any rest */
    size_t literal;          /* with so many of its bytes every path begins that it matches */
    struct bh_words methods; /* none: any; GET is HEAD too */
    struct bh_words scopes;  /* all of them are needed */
    struct bh_words roles;   /* one of them is needed; none: any */
    bool anonymous;          /* needs no credential */
    uint32_t limits;         /* bit i: policy->limits[i] counts here */
    int64_t max_body_bytes;  /* 0: as nginx is configured */
    int64_t timeout_ms;      /* 0: as nginx is configured; of reading from the application */
};

struct bh_policy {
    enum bh_policy_auth auth;
    struct bh_str app_scope; /* of tenant tokens where auth is "app" */
    bool user_tokens;        /* tokens of the platform (HS256) are accepted */
    bool api_keys;           /* API keys are accepted */
    struct bh_words issuers; /* names: documents issuer/<name> */
    struct bh_limit *limits;
    size_t limit_count;
    uint32_t everywhere; /* bit i: limits[i] counts for every request */
    struct bh_route *routes;
    size_t route_count;
    bool unlisted_denied; /* what no route matches is 403 */
    bool encoded_paths;   /* encoded / \ . and // are allowed though there are routes */
    bool x_ratelimit;     /* also the X-RateLimit-* headers */
    bool maintenance;     /* nobody is served, people get the message */
    struct bh_str maintenance_message;
    int64_t maintenance_retry_s; /* 0: not known */
};

/**
 * bh_policy_read(value, at, arena, issues, ret_policy):
 * Check the object ${value} and build ${ret_policy} in ${arena}; its strings are borrowed from
 * ${value}.  What is wrong goes to ${issues} (initialised by the caller), with pointers below ${at}
 * ("" or "/edge"); ${ret_policy} counts only where there is nothing.
 */
void bh_policy_read(const struct bh_json *value, const char *at, struct bh_arena *arena,
    struct bh_issues *issues, struct bh_policy *ret_policy);

/**
 * bh_policy_read_layer(value, at, arena, issues):
 * Check the object ${value} as what a tenant lays over its tier's policy, member by member: where
 * it states no quota_policies itself, the names of some may be the tier's.
 */
void bh_policy_read_layer(
    const struct bh_json *value, const char *at, struct bh_arena *arena, struct bh_issues *issues);

/**
 * bh_policy_parse(text, arena, ret_policy, err):
 * The same from JSON text.  BH_E_BAD_REQUEST, BH_E_INVALID with the first pointer, BH_E_NO_MEMORY.
 */
enum bh_code bh_policy_parse(struct bh_str text, struct bh_arena *arena,
    struct bh_policy *ret_policy, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_policy_route(policy, method, path):
 * The first route that ${method} and the normalised ${path} match, or NULL.
 */
const struct bh_route *bh_policy_route(
    const struct bh_policy *policy, struct bh_str method, struct bh_str path);

#endif
