/* The five settings that PgBouncer tracks between clients. */
#ifndef BH_DATA_POOLER_H
#define BH_DATA_POOLER_H

#include "postgres.h"

/** bh_pooler_setting(name): is ${name} (NULL: no) one of the five? */
bool bh_pooler_setting(const char *name);

/**
 * bh_pooler_restore():
 * Give each of the five that differs its value from the start of the connection
 * again, at the current nest level of settings.
 */
void bh_pooler_restore(void);

#endif
