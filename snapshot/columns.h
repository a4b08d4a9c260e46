/*
 * Counts that die with who made them: a column of counts for each process, in a
 * mapped file.  Only its process writes a column, and holds a lock of the open
 * file (fcntl F_OFD_SETLK) on the byte of its number for as long as it lives:
 * the kernel lets go of it however the process ends.  Who finds an owned column
 * without a lock clears it.
 */
#ifndef BH_SNAPSHOT_COLUMNS_H
#define BH_SNAPSHOT_COLUMNS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

#define BH_COLUMNS 256
#define BH_COLUMNS_OWNERS 2048 /* where the owners lie in the file: uint32[BH_COLUMNS] */
#define BH_COLUMNS_USED 3072   /* uint32: columns from there on were never anybody's */

struct bh_columns {
    _Atomic uint32_t *owners; /* process id for people; 0: nobody's */
    _Atomic uint32_t *used;
    _Atomic uint32_t *cells; /* column after column */
    size_t at;               /* where they begin in the file */
    uint32_t capacity;       /* counts in a column */
    int fd;
    int mine;      /* -1: none */
    bool reserved; /* a column's memory is there before it is used: to touch what a full tmpfs has
                      no room for is SIGBUS */
};

/**
 * bh_columns_of(map, fd, at, capacity):
 * The columns of the file that is mapped at ${map} and open as ${fd}; their
 * ${capacity} counts each begin at byte ${at}.
 */
struct bh_columns bh_columns_of(void *map, int fd, size_t at, uint32_t capacity);

/** bh_columns_claim(columns, what, err): get a column, cleared.  BH_E_UNAVAILABLE where all are in
 * use; ${what} they count is for the message. */
enum bh_code bh_columns_claim(
    struct bh_columns *columns, const char *what, struct bh_error *err) BH_MUSTCHECK;

/** bh_columns_sweep(columns): clear those whose process is gone; a system call for each that is
 * in use. */
void bh_columns_sweep(struct bh_columns *columns);

/** bh_columns_mine(columns, index): our own count of that index; NULL without a column. */
_Atomic uint32_t *bh_columns_mine(struct bh_columns *columns, uint32_t index);

/** bh_columns_sum(columns, index): of all processes. */
uint32_t bh_columns_sum(const struct bh_columns *columns, uint32_t index);

#endif
