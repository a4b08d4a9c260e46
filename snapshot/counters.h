/* Maps the counters file (core/meter.h) on tmpfs. */
#ifndef BH_SNAPSHOT_COUNTERS_H
#define BH_SNAPSHOT_COUNTERS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/meter.h"

#define BH_COUNTERS_CAPACITY 1048576 /* slots; the file is sparse, only used pages exist */

/**
 * bh_counters_open(path, create, ret_counters, err):
 * Map the counters file ${path} shared and writable.  Where it is missing or
 * of another version: with ${create} a new one replaces it atomically (two
 * creators agree on one), without BH_E_NOT_READY.  The file is never shrunk.
 */
enum bh_code bh_counters_open(const char *path, bool create, struct bh_counters **ret_counters,
    struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_counters_replaced(counters, path):
 * Is the file at ${path} gone or another one than is mapped?  Then what is
 * counted here reaches nobody.
 */
bool bh_counters_replaced(const struct bh_counters *counters, const char *path);

/** bh_counters_close(counters): unmap; NULL is fine. */
void bh_counters_close(struct bh_counters *counters);

#endif
