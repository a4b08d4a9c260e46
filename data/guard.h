/* What statements may run: for pool roles before a tenant is bound, and while one is. */
#ifndef BH_DATA_GUARD_H
#define BH_DATA_GUARD_H

/** bh_guard_install(): put our hooks in front of those that are there; once, at load. */
void bh_guard_install(void);

#endif
