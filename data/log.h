/*
 * Keeps tenant tokens out of the server's log, and those that are written into
 * statements (bulkhead.literal_token) out of pg_stat_activity and
 * pg_stat_statements.
 */
#ifndef BH_DATA_LOG_H
#define BH_DATA_LOG_H

/** bh_log_install(): put our hooks in front of those that are there; once, at load. */
void bh_log_install(void);

/** bh_log_mask(text): overwrite the tokens in ${text} (NULL: nothing), in place. */
void bh_log_mask(char *text);

/**
 * bh_log_hide_activity():
 * Called before each statement.  Where this role may write tokens into statements
 * and pg_stat_activity shows one, overwrites it.
 */
void bh_log_hide_activity(void);

#endif
