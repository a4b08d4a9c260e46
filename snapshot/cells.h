/*
 * A table of cells in a mapped file: found by 128 bits of a keyed hash, claimed
 * by whoever needs one, free again by themselves once their time has passed.
 * snapshot/limits.h says what for.
 */
#ifndef BH_SNAPSHOT_CELLS_H
#define BH_SNAPSHOT_CELLS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BH_CELL_PLACES 32 /* that a key may have; they lie on two pages at most */
#define BH_CELL_PAGE 4096
#define BH_CELL_CLAIMED (UINT64_C(1) << 63)

/* What every cell begins with. */
struct bh_cell {
    _Atomic uint64_t state; /* ns of CLOCK_MONOTONIC: free from then on; bit 63: being claimed */
    _Atomic uint64_t key[2];
    _Atomic uint32_t no; /* of the tenant */
    uint32_t reserved;
};
_Static_assert(sizeof(struct bh_cell) == 32, "half a cache line");

struct bh_cell_key {
    uint64_t word[2]; /* bh_sip_end */
    uint32_t no;
};

struct bh_cells {
    char *base;
    size_t stride;     /* bytes of a cell */
    uint32_t capacity; /* cells; a power of two */
    uint32_t near;     /* cells from one tenant number to the next; 0: placed by hash */
    bool fair;         /* a tenant gets no more than its part of the places */
    int fd;            /* of the file, opened by this process: claims are serialised by its locks */
    const char *map;   /* where the file begins */
    uint8_t *pages;    /* a bit for each of its pages that is known to have memory */
    /* Is the cell in use whatever its state says?  NULL: never. */
    bool (*busy)(const void *arg, const struct bh_cell *cell);
    const void *arg;
};

/**
 * bh_cells_find(cells, key): the cell of that key, or NULL.  It may be another's when the caller
 * looks again: bh_cell_holds.
 */
struct bh_cell *bh_cells_find(const struct bh_cells *cells, const struct bh_cell_key *key);

/** bh_cell_holds(cell, key): is it that key's now?  Reads `state` first. */
bool bh_cell_holds(const struct bh_cell *cell, const struct bh_cell_key *key);

/**
 * bh_cells_claim(cells, key, now_ns, begin, arg):
 * The cell of that key, one that is free where it has none: ${begin} (may be NULL) fills what lies
 * behind its head and returns its first state, by default ${now_ns}: empty.  NULL where there is no
 * place for this tenant, no memory, or the claims of this key's lock stand still.
 */
struct bh_cell *bh_cells_claim(const struct bh_cells *cells, const struct bh_cell_key *key,
    uint64_t now_ns, uint64_t (*begin)(struct bh_cell *cell, const void *arg), const void *arg);

#endif
