/*
 * Session-level changes of settings by a bound tenant.  Every one is undone at
 * the end of the transaction anyway; who asks for more is told so (TN005)
 * instead of finding out later.
 */
#ifndef BH_DATA_SETS_H
#define BH_DATA_SETS_H

/** bh_sets_define(): in mode `row` nobody may have plans printed; once, at load. */
void bh_sets_define(void);

/** bh_sets_begin(nest): settings changed at level ${nest} and above are the tenant's. */
void bh_sets_begin(int nest);

/** bh_sets_end(): the transaction is over. */
void bh_sets_end(void);

/**
 * bh_sets_called():
 * set_config() is about to be called, with arguments that nobody can see
 * before; bh_sets_check() has something to do for the rest of the transaction.
 */
void bh_sets_called(void);

/**
 * bh_sets_named():
 * SET has set a name with a dot.  FATAL TN005, now and then looked at, where this
 * process has more than 1000 names that are no settings of the server.
 */
void bh_sets_named(void);

/**
 * bh_sets_check():
 * Raises TN005 where set_config() left a change for the session or a value
 * above its limit.
 */
void bh_sets_check(void);

#endif
