/* The hooks of PostgreSQL through which data/meter.h sees planning, queries, utility statements and
 * functions. */
#ifndef BH_DATA_METER_HOOK_H
#define BH_DATA_METER_HOOK_H

/** bh_meter_hook_install(): put our hooks in front of those that are there; once, at load. */
void bh_meter_hook_install(void);

#endif
