/* The files that only the engine user may read: the master key, and who may ask. */
#ifndef BH_CONTROL_SECRETS_H
#define BH_CONTROL_SECRETS_H

#include "control/db.h"
#include "core/error.h"
#include "core/key.h"

/**
 * bh_secret_read(path, ret_text, err):
 * Read a small text file that nobody but its owner may read.  BH_E_CONFIG for
 * one that others can read, or that is absent or larger than 64 KiB.  The
 * caller wipes where it has to, and frees.
 */
enum bh_code bh_secret_read(const char *path, char **ret_text, struct bh_error *err) BH_MUSTCHECK;

/** bh_master_read(path, ret_key, err): 64 hexadecimal digits and at most a newline. */
enum bh_code bh_master_read(
    const char *path, struct bh_key *ret_key, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_principals_ensure(db, text, err):
 * Make or replace in the registry each principal in ${text}, lines of
 * `<id> operator - <hash>` or `<id> agent <cell> <hash>`; BH_E_CONFIG names the line.
 */
enum bh_code bh_principals_ensure(
    struct bh_db *db, const char *text, struct bh_error *err) BH_MUSTCHECK;

#endif
