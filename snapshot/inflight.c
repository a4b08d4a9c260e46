#include "snapshot/inflight.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/columns.h"
#include "snapshot/counters.h"
#include "snapshot/mapped.h"

#define MAGIC UINT64_C(0x6268666c69676874) /* "bhflight" */
#define VERSION 1
#define HEADER_BYTES 4096
#define COLUMN_BYTES ((size_t)BH_COUNTERS_CAPACITY * sizeof(uint32_t))
#define FILE_BYTES (HEADER_BYTES + BH_COLUMNS * COLUMN_BYTES)

struct header {
    uint64_t magic;
    uint32_t version;
    uint32_t columns;
    uint32_t capacity; /* of the counters file */
    uint32_t reserved;
    uint64_t file_epoch; /* of the counters file */
};

struct bh_inflight {
    void *map;
    int fd;
    struct bh_columns columns;
};

static bool
header_ours(const void *data, const void *arg)
{
    const struct header *header = data;
    const struct bh_counters *counters = arg;
    return header->magic == MAGIC && header->version == VERSION && header->columns == BH_COLUMNS &&
           header->capacity == counters->capacity && header->file_epoch == counters->file_epoch;
}

static enum bh_code
fill_header(void *to, const void *arg, struct bh_error *err)
{
    const struct bh_counters *counters = arg;
    (void)err;
    *(struct header *)to = (struct header){
        .magic = MAGIC,
        .version = VERSION,
        .columns = BH_COLUMNS,
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

void
bh_inflight_sweep(struct bh_inflight *inflight)
{
    bh_columns_sweep(&inflight->columns);
}

/* ---- the file ---- */

enum bh_code
bh_inflight_open(const char *counters_path, const struct bh_counters *counters, bool claim,
    struct bh_inflight **ret_inflight, struct bh_error *err)
{
    char path[PATH_MAX];
    if (!path_of(counters_path, path)) {
        return bh_fail(err, BH_E_CONFIG, "path too long: %s", counters_path);
    }
    struct bh_inflight *inflight = calloc(1, sizeof(*inflight));
    if (inflight == NULL) {
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for the counts of requests in flight");
    }
    struct bh_mapped kind = kind_of(counters);
    enum bh_code code = bh_mapped_open(path, &kind, claim, &inflight->map, &inflight->fd, err);
    if (code != BH_OK) {
        free(inflight);
        return code;
    }
    inflight->columns =
        bh_columns_of(inflight->map, inflight->fd, HEADER_BYTES, BH_COUNTERS_CAPACITY);
    code = claim ? bh_columns_claim(&inflight->columns, "requests in flight", err) : BH_OK;
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
        munmap(inflight->map, FILE_BYTES);
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
    _Atomic uint32_t *place = bh_columns_mine(&inflight->columns, index);
    if (place != NULL) {
        atomic_fetch_add(place, 1);
#ifndef __x86_64__ /* where that alone does not keep the look that follows behind it */
        atomic_thread_fence(memory_order_seq_cst);
#endif
    }
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
    return bh_columns_sum(&inflight->columns, index);
}
