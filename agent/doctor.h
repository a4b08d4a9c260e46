/* What `bulkhead doctor` asks of the node: how full its files are, and what they are. */
#ifndef BH_AGENT_DOCTOR_H
#define BH_AGENT_DOCTOR_H

#include "agent/node.h"

/**
 * bh_doctor_json(node, out):
 * Append the JSON of GET /doctor (doc/contract/local.md).  Members that cannot be
 * told now, as while a whole snapshot is being taken, are null.
 */
void bh_doctor_json(struct bh_node *node, struct bh_buf *out);

#endif
