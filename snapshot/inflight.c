#include "snapshot/inflight.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/counters.h"
#include "snapshot/mapped.h"

#define MAGIC UINT64_C(0x6268666c69676874) /* "bhflight" */
#define VERSION 1
#define HEADER_BYTES 4096
#define COLUMN_BYTES ((size_t)BH_COUNTERS_CAPACITY * sizeof(uint32_t))
#define FILE_BYTES (HEADER_BYTES + BH_INFLIGHT_COLUMNS * COLUMN_BYTES)

struct header {
    uint64_t magic;
    uint32_t version;
    uint32_t columns;
    uint32_t capacity; /* of the counters file */
    uint32_t reserved;
    uint64_t file_epoch; /* of the counters file */
};

struct page {
    union {
        struct header header;
        uint8_t room[HEADER_BYTES / 2];
    };
    _Atomic uint32_t owners[BH_INFLIGHT_COLUMNS]; /* process id for people; 0: nobody's */
    _Atomic uint32_t used;                        /* columns from here on were never anybody's */
};
_Static_assert(sizeof(struct page) <= HEADER_BYTES, "the header is a page");

struct bh_inflight {
    struct page *page;
    _Atomic uint32_t *cells; /* column after column */
    int fd;
    int column; /* ours; -1: none */
};

static bool
header_ours(const void *data, const void *arg)
{
    const struct header *header = data;
    const struct bh_counters *counters = arg;
    return header->magic == MAGIC && header->version == VERSION &&
           header->columns == BH_INFLIGHT_COLUMNS && header->capacity == counters->capacity &&
           header->file_epoch == counters->file_epoch;
}

static enum bh_code
fill_header(void *to, const void *arg, struct bh_error *err)
{
    const struct bh_counters *counters = arg;
    (void)err;
    *(struct header *)to = (struct header){
        .magic = MAGIC,
        .version = VERSION,
        .columns = BH_INFLIGHT_COLUMNS,
        .capacity = counters->capacity,
        .file_epoch = counters->file_epoch,
    };
    return BH_OK;
}

static struct bh_mapped
kind_of(const void *arg)
{
    return (struct bh_mapped){
        .what = "counts of requests in flight",
        .bytes = FILE_BYTES,
        .header_bytes = sizeof(struct header),
        .ours = header_ours,
        .fill = fill_header,
        .arg = arg,
    };
}

static bool
path_of(const char *counters_path, char ret_path[PATH_MAX])
{
    int len = snprintf(ret_path, PATH_MAX, "%s" BH_INFLIGHT_SUFFIX, counters_path);
    return len > 0 && len < PATH_MAX;
}

/* ---- who holds a column ---- */

static bool
lock_column(const struct bh_inflight *inflight, int column, short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = column, .l_len = 1};
    return fcntl(inflight->fd, F_OFD_SETLK, &lock) == 0;
}

/* With its lock held: what its last owner left counts no more. */
static void
clear_column(struct bh_inflight *inflight, int column)
{
    off_t at = (off_t)(HEADER_BYTES + (size_t)column * COLUMN_BYTES);
    if (fallocate(inflight->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at,
            (off_t)COLUMN_BYTES) != 0) { /* no tmpfs: by hand */
        memset(inflight->cells + (size_t)column * BH_COUNTERS_CAPACITY, 0, COLUMN_BYTES);
    }
    atomic_store(&inflight->page->owners[column], 0);
}

static void
raise_used(struct page *page, uint32_t count)
{
    uint32_t old = atomic_load(&page->used);
    while (old < count && !atomic_compare_exchange_weak(&page->used, &old, count)) {
    }
}

static enum bh_code
claim_column(struct bh_inflight *inflight, struct bh_error *err)
{
    for (int column = 0; column < BH_INFLIGHT_COLUMNS; column++) {
        if (!lock_column(inflight, column, F_WRLCK)) {
            continue;
        }
        clear_column(inflight, column);
        atomic_store(&inflight->page->owners[column], (uint32_t)getpid());
        raise_used(inflight->page, (uint32_t)column + 1);
        inflight->column = column;
        return BH_OK;
    }
    bh_fail(err, BH_E_UNAVAILABLE, "all %d columns of requests in flight are in use",
        BH_INFLIGHT_COLUMNS);
    return bh_hint(err, "wait until old workers have ended");
}

void
bh_inflight_sweep(struct bh_inflight *inflight)
{
    int used = (int)atomic_load(&inflight->page->used);
    for (int column = 0; column < used; column++) {
        if (column == inflight->column || atomic_load(&inflight->page->owners[column]) == 0 ||
            !lock_column(inflight, column, F_WRLCK)) {
            continue;
        }
        clear_column(inflight, column);
        (void)lock_column(inflight, column, F_UNLCK);
    }
}

/* ---- the file ---- */

enum bh_code
bh_inflight_open(const char *counters_path, const struct bh_counters *counters, bool claim,
    struct bh_inflight **ret_inflight, struct bh_error *err)
{
    char path[PATH_MAX];
    void *map;
    if (!path_of(counters_path, path)) {
        return bh_fail(err, BH_E_CONFIG, "path too long: %s", counters_path);
    }
    struct bh_inflight *inflight = calloc(1, sizeof(*inflight));
    if (inflight == NULL) {
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for the counts of requests in flight");
    }
    struct bh_mapped kind = kind_of(counters);
    enum bh_code code = bh_mapped_open(path, &kind, true, &map, &inflight->fd, err);
    if (code != BH_OK) {
        free(inflight);
        return code;
    }
    inflight->page = map;
    inflight->cells = (_Atomic uint32_t *)(void *)((char *)map + HEADER_BYTES);
    inflight->column = -1;
    code = claim ? claim_column(inflight, err) : BH_OK;
    if (code != BH_OK) {
        bh_inflight_close(inflight, true);
        return code;
    }
    *ret_inflight = inflight;
    return BH_OK;
}

bool
bh_inflight_replaced(const struct bh_inflight *inflight, const char *counters_path)
{
    char path[PATH_MAX];
    struct stat now, mapped;
    if (!path_of(counters_path, path) || fstat(inflight->fd, &mapped) != 0) {
        return false;
    }
    if (stat(path, &now) != 0) {
        return errno == ENOENT;
    }
    return now.st_ino != mapped.st_ino || now.st_dev != mapped.st_dev;
}

void
bh_inflight_close(struct bh_inflight *inflight, bool unmap)
{
    if (inflight == NULL) {
        return;
    }
    if (unmap) {
        munmap(inflight->page, FILE_BYTES);
    }
    close(inflight->fd);
    free(inflight);
}

/* ---- counting ---- */

uint32_t
bh_inflight_index(const struct bh_counters *counters, const struct bh_slot *slot)
{
    return (uint32_t)(slot - counters->slots);
}

_Atomic uint32_t *
bh_inflight_enter(struct bh_inflight *inflight, uint32_t index)
{
    if (inflight->column < 0 || index >= BH_COUNTERS_CAPACITY) {
        return NULL;
    }
    _Atomic uint32_t *place =
        &inflight->cells[(size_t)inflight->column * BH_COUNTERS_CAPACITY + index];
    atomic_fetch_add(place, 1);
    return place;
}

void
bh_inflight_leave(_Atomic uint32_t *place)
{
    if (place != NULL) {
        atomic_fetch_sub(place, 1);
    }
}

uint32_t
bh_inflight_count(const struct bh_inflight *inflight, uint32_t index)
{
    uint32_t used = atomic_load(&inflight->page->used);
    uint32_t sum = 0;
    for (uint32_t column = 0; index < BH_COUNTERS_CAPACITY && column < used; column++) {
        if (atomic_load(&inflight->page->owners[column]) != 0) {
            sum += atomic_load(&inflight->cells[(size_t)column * BH_COUNTERS_CAPACITY + index]);
        }
    }
    return sum;
}
