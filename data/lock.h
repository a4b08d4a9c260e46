/* bulkhead.lock() and bulkhead.try_lock(): advisory locks of the bound tenant. */
#ifndef BH_DATA_LOCK_H
#define BH_DATA_LOCK_H

/** bh_lock_end(): the transaction is over, its locks are released with it. */
void bh_lock_end(void);

#endif
