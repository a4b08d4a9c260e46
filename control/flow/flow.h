/*
 * The converging flow: durable, idempotent steps from what is to what should be.
 *
 * Worker threads lease operations, run their steps in order and, where a first
 * onboarding cannot succeed, undo what this flow created.  Every effect carries
 * the attempt of its lease, and a worker that was frozen past its lease is
 * fenced.  Any process may be killed at any point.
 */
#ifndef BH_CONTROL_FLOW_H
#define BH_CONTROL_FLOW_H

#include "control/db.h"
#include "core/error.h"

/* What the steps need of the world; strings are borrowed for the workers' life. */
struct bh_flow_config {
    struct bh_db_pool *pool; /* registry */
    const char *
        server_conninfo; /* superuser on the cell's PostgreSQL server; the database name is added */
    const char *app_migrations;  /* directory of numbered .sql files of the application */
    const char *edge_url;        /* "http://127.0.0.1:7080": the smoke test calls it */
    const char *base_domain;     /* "localhost" */
    const struct bh_key *master; /* to mint the smoke test's user token */
    const char *cell;            /* whose tenants these workers run */
    const char *state_dir;       /* failpoint counters (test builds) */
    unsigned workers;
    int lease_ms;                             /* 0: 10000; heartbeat at a third of it */
    int deadline_ms;                          /* 0: each step's own (steps.c); tests shorten it */
    void (*log)(void *arg, const char *line); /* NULL: quiet; called by any worker */
    void *log_arg;
};

struct bh_flow;

/**
 * bh_flow_start(config, ret_flow, err):
 * Read the application's migrations and start the workers; they wait for NOTIFY
 * bulkhead_flow and poll each second.  They hold ${workers} + 1 connections of
 * the pool all the time.  BH_E_CONFIG where the migrations cannot be read.
 */
enum bh_code bh_flow_start(const struct bh_flow_config *config, struct bh_flow **ret_flow,
    struct bh_error *err) BH_MUSTCHECK;

/** bh_flow_stop(flow): let running steps reach their end (at most 5 s), release the leases, free.
 */
void bh_flow_stop(struct bh_flow *flow);

#endif
