/* How much memory one session may use: who takes more has an error, not the machine's end. */
#ifndef BH_DATA_MEMORY_H
#define BH_DATA_MEMORY_H

/** bh_memory_define(): the setting bulkhead.session_memory; once, at load. */
void bh_memory_define(void);

/**
 * bh_memory_limit():
 * Hold this process, as long as it lives, to bulkhead.session_memory of memory of
 * its own.  Beyond it PostgreSQL raises 53200 "out of memory" and goes on.  What
 * the process has already is not taken away.
 */
void bh_memory_limit(void);

#endif
