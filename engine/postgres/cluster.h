/*
 * First set-up of a PostgreSQL server that we run: roles, databases, extension.
 *
 * Passwords reach the server as SCRAM secrets only, so neither the wire nor a
 * log ever holds one.  Running it again changes nothing that is right.
 */
#ifndef BH_ENGINE_POSTGRES_CLUSTER_H
#define BH_ENGINE_POSTGRES_CLUSTER_H

#include "core/error.h"

#define BH_SCRAM_MAX 256

struct bh_cluster_plan {
    const char *conninfo;          /* superuser, without database */
    const char *registry_password; /* of bulkhead_registry, owner of database bulkhead */
    const char *pool_password;     /* of bulkhead_pool */
    const char *shared_database;   /* first shared database, gets the extension */
};

/**
 * bh_cluster_ensure(plan, ret_pool_secret, err):
 * Bring the server to ${plan} and give the pool role's SCRAM secret, which the
 * pooler needs to pass logins through.  CONNECT is revoked from PUBLIC on every
 * database.  BH_E_UNAVAILABLE where the server cannot be reached (again);
 * BH_E_ENGINE where it refuses.
 */
enum bh_code bh_cluster_ensure(const struct bh_cluster_plan *plan,
    char ret_pool_secret[BH_SCRAM_MAX], struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_cluster_shared(conninfo, name, err):
 * Have a further shared database ${name} on the server that ${conninfo} (superuser,
 * without database) leads to, with the extension, open to the pool role only.
 * Running it again completes what was begun; the same failures.
 */
enum bh_code bh_cluster_shared(
    const char *conninfo, const char *name, struct bh_error *err) BH_MUSTCHECK;

#endif
