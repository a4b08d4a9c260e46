/* A file on tmpfs that several processes map: made by whoever comes first, never shrunk. */
#ifndef BH_SNAPSHOT_MAPPED_H
#define BH_SNAPSHOT_MAPPED_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"

#define BH_MAPPED_HEADER_MAX 256

struct bh_mapped {
    const char *what;    /* "counters": for messages */
    size_t bytes;        /* of the whole file, sparse */
    size_t header_bytes; /* at most BH_MAPPED_HEADER_MAX */
    /* Is this the header of such a file? */
    bool (*ours)(const void *header, const void *arg);
    /* Write the header of a new one; the storage is zeroed. */
    enum bh_code (*fill)(void *header, const void *arg, struct bh_error *err);
    const void *arg; /* of both */
};

/**
 * bh_mapped_open(path, kind, create, ret_map, ret_fd, err):
 * Map the file ${path} shared and writable.  Where it is missing or not ours:
 * with ${create} a new one replaces it atomically (two creators agree on one),
 * without BH_E_NOT_READY.  ${ret_fd} (may be NULL) gets an open descriptor of
 * the file that is mapped.
 */
enum bh_code bh_mapped_open(const char *path, const struct bh_mapped *kind, bool create,
    void **ret_map, int *ret_fd, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_mapped_replaced(path, kind):
 * Is there no file at ${path}, or one whose header is not ours?
 */
bool bh_mapped_replaced(const char *path, const struct bh_mapped *kind);

#endif
