/*
 * Which tables belong to no tenant: SECURITY LABEL FOR bulkhead ON TABLE x IS
 * 'shared' marks reference data that every tenant may read.  Only superusers
 * set or remove the label; no other label exists.
 */
#ifndef BH_DATA_LABEL_H
#define BH_DATA_LABEL_H

#include "postgres.h"

/** bh_label_register(): offer the label provider "bulkhead"; once, at load. */
void bh_label_register(void);

/**
 * bh_label_shared(relid):
 * Is table ${relid} labelled as shared?  Cached in this backend; the cache
 * follows changes of other backends as the relation cache does.  Must be called
 * in a transaction that is not aborted.  A partition has a label of its own.
 */
bool bh_label_shared(Oid relid);

#endif
