/* Progress for who started us: lines of JSON on a descriptor (doc/contract/local.md). */
#ifndef BH_AGENT_REPORT_H
#define BH_AGENT_REPORT_H

#include "core/error.h"

struct bh_report {
    int notify; /* lines for `bulkhead up`; -1: none */
    int parent; /* how it ended, for the process that waits; -1: it is gone */
};

/** bh_report_component(report, component, state, detail): one line of progress. */
void bh_report_component(
    struct bh_report *report, const char *component, const char *state, const char *detail);

/** bh_report_end(report, err): the last line: ready where ${err} is NULL; then both descriptors are
 * closed. */
void bh_report_end(struct bh_report *report, const struct bh_error *err);

/** bh_report_wait(fd): in the parent: wait for the end; prints the failure; returns the exit code.
 */
int bh_report_wait(int fd);

#endif
