/*
 * What Prometheus scrapes (text format 0.0.4): the snapshot, and the edge's
 * counters of the busiest tenants by name, all others as `__other__`, so that a
 * million tenants make no million series.
 */
#ifndef BH_AGENT_METRICS_H
#define BH_AGENT_METRICS_H

#include "agent/node.h"

/** bh_metrics_write(node, out): append the metrics; may be called from any thread. */
void bh_metrics_write(struct bh_node *node, struct bh_buf *out);

#endif
