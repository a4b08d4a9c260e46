/* How the limits file is laid out; for limits.c and uses.c only. */
#ifndef BH_SNAPSHOT_LIMITFILE_H
#define BH_SNAPSHOT_LIMITFILE_H

#include "core/sip.h"
#include "snapshot/columns.h"
#include "snapshot/limits.h"

#define BH_LIMITS_MAGIC UINT64_C(0x62686c696d697431) /* "bhlimit1" */
#define BH_LIMITS_VERSION 3
#define BH_LIMITS_PAGE 4096
#define BH_LIMITS_RENEWED 1024

#define BH_LIMITS_CELL 64
#define BH_LIMITS_TENANTS (UINT32_C(1) << 20)
#define BH_LIMITS_CLIENTS (UINT32_C(1) << 20)
#define BH_LIMITS_CROWDS (UINT32_C(1) << 16)
#define BH_LIMITS_QUOTAS BH_QUOTA_CELLS
#define BH_LIMITS_GROUP 32 /* quotas behind one bit of the map of those that were touched */
#define BH_LIMITS_WORDS (BH_LIMITS_QUOTAS / BH_LIMITS_GROUP / 64)

/* Where the parts begin. */
#define BH_LIMITS_AT_TOUCHED ((size_t)BH_LIMITS_PAGE)
#define BH_LIMITS_AT_TENANTS (BH_LIMITS_AT_TOUCHED + (size_t)BH_LIMITS_WORDS * sizeof(uint64_t))
#define BH_LIMITS_AT_CLIENTS (BH_LIMITS_AT_TENANTS + (size_t)BH_LIMITS_TENANTS * BH_LIMITS_CELL)
#define BH_LIMITS_AT_CROWDS (BH_LIMITS_AT_CLIENTS + (size_t)BH_LIMITS_CLIENTS * BH_LIMITS_CELL)
#define BH_LIMITS_AT_QUOTAS (BH_LIMITS_AT_CROWDS + (size_t)BH_LIMITS_CROWDS * BH_LIMITS_CELL)
#define BH_LIMITS_AT_COLUMNS                                                                       \
    (BH_LIMITS_AT_QUOTAS + (size_t)BH_LIMITS_QUOTAS * sizeof(struct bh_quota))
#define BH_LIMITS_BYTES                                                                            \
    (BH_LIMITS_AT_COLUMNS + (size_t)BH_COLUMNS * BH_LIMITS_CROWDS * sizeof(uint32_t))

#define BH_LIMITS_PAGES (BH_LIMITS_BYTES / BH_CELL_PAGE)

struct bh_limits_header {
    uint64_t magic;
    uint32_t version;
    uint32_t reserved;
    uint8_t key[BH_SIP_KEY_BYTES];
    uint64_t file_epoch; /* differs for each file that ever was */
};

struct bh_limits {
    void *map;
    uint8_t *pages; /* cells.h */
    int fd;
    const struct bh_limits_header *header;
    _Atomic uint64_t *renewed_ns;
    _Atomic uint64_t *touched; /* a bit for each group of quotas: used since somebody looked */
    struct bh_columns columns;
    struct bh_cells tenants;
    struct bh_cells clients;
    struct bh_cells crowds;
    struct bh_cells quotas;
};

/** bh_limits_crowd(limits, cell): its index among the crowds. */
uint32_t bh_limits_crowd(const struct bh_limits *limits, const struct bh_cell *cell);

/** bh_limits_touch(limits, quota): it was used, or refused somebody. */
void bh_limits_touch(struct bh_limits *limits, const struct bh_quota *quota);

#endif
