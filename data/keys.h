/*
 * The keys that tenant tokens are checked with: rows of bulkhead.key_file,
 * turned into keys of this session's database.
 */
#ifndef BH_DATA_KEYS_H
#define BH_DATA_KEYS_H

#include "postgres.h"

#include "core/key.h"

/**
 * bh_keys_find(kid, now_s):
 * The MAC of this database under the row ${kid}, borrowed until the next call.
 * Reads the key file on first use and after each reload (SIGHUP).  Raises
 * TN002 where there is no such row, its validity excludes ${now_s}, or the
 * file cannot be trusted (the log says why).
 */
struct bh_mac *bh_keys_find(struct bh_str kid, int64_t now_s);

/** bh_keys_generation(): rises whenever the key file was read. */
uint64 bh_keys_generation(void);

/**
 * bh_keys_problem():
 * Read the key file again; what is wrong with it, borrowed until the next call,
 * or NULL.  Never holds anything of its content.
 */
const char *bh_keys_problem(void);

/** bh_keys_database(): name of this session's database; lives as long as the session. */
const char *bh_keys_database(void);

#endif
