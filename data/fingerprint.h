/*
 * The shape of a statement as 64 bits: equal for statements that differ only in
 * literals, parameters, comments, white space, letter case and the length of
 * IN and ARRAY lists.  Nothing of a literal enters it.  Calls nothing of PostgreSQL.
 */
#ifndef BH_DATA_FINGERPRINT_H
#define BH_DATA_FINGERPRINT_H

#include <stdint.h>

#include "core/str.h"

/* What comes after this many bytes does not count. */
#define BH_FINGERPRINT_MAX 65536

/**
 * bh_fingerprint(sql):
 * The fingerprint of ${sql}, which may be any bytes: what ends within a string,
 * a comment or a quoted name is taken as if it were closed there.
 */
uint64_t bh_fingerprint(struct bh_str sql);

#endif
