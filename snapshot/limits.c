#include "snapshot/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "snapshot/limitfile.h"
#include "snapshot/mapped.h"

static bool
header_ours(const void *data, const void *arg)
{
    const struct bh_limits_header *header = data;
    const uint64_t *epoch = arg;
    return header->magic == BH_LIMITS_MAGIC && header->version == BH_LIMITS_VERSION &&
           (epoch == NULL || header->file_epoch == *epoch);
}

static enum bh_code
fill_header(void *to, const void *arg, struct bh_error *err)
{
    struct bh_limits_header *header = to;
    (void)arg;
    header->magic = BH_LIMITS_MAGIC;
    header->version = BH_LIMITS_VERSION;
    if (RAND_bytes(header->key, sizeof(header->key)) != 1 ||
        RAND_bytes((unsigned char *)&header->file_epoch, sizeof(header->file_epoch)) != 1) {
        return bh_fail(err, BH_E_INTERNAL, "no randomness for the limits file");
    }
    return BH_OK;
}

/* ${epoch}: of the very file that is meant; NULL: any of ours. */
static struct bh_mapped
kind_of(const uint64_t *epoch)
{
    return (struct bh_mapped){
        .what = "limits",
        .bytes = BH_LIMITS_BYTES,
        .header_bytes = sizeof(struct bh_limits_header),
        .ours = header_ours,
        .fill = fill_header,
        .arg = epoch,
    };
}

static bool
path_of(const char *counters_path, char ret_path[PATH_MAX])
{
    int len = snprintf(ret_path, PATH_MAX, "%s" BH_LIMITS_SUFFIX, counters_path);
    return len > 0 && len < PATH_MAX;
}

uint32_t
bh_limits_crowd(const struct bh_limits *limits, const struct bh_cell *cell)
{
    return (uint32_t)((size_t)((const char *)cell - limits->crowds.base) / BH_LIMITS_CELL);
}

static bool
crowd_busy(const void *arg, const struct bh_cell *cell)
{
    const struct bh_limits *limits = arg;
    return bh_columns_sum(&limits->columns, bh_limits_crowd(limits, cell)) > 0;
}

static struct bh_cells
part(const struct bh_limits *limits, size_t at, size_t stride, uint32_t capacity)
{
    return (struct bh_cells){
        .base = (char *)limits->map + at,
        .stride = stride,
        .capacity = capacity,
        .fd = limits->fd,
        .map = limits->map,
        .pages = limits->pages,
        .arg = limits,
    };
}

static void
lay_out(struct bh_limits *limits)
{
    limits->header = limits->map;
    limits->renewed_ns = (_Atomic uint64_t *)(void *)((char *)limits->map + BH_LIMITS_RENEWED);
    limits->touched = (_Atomic uint64_t *)(void *)((char *)limits->map + BH_LIMITS_AT_TOUCHED);
    limits->columns =
        bh_columns_of(limits->map, limits->fd, BH_LIMITS_AT_COLUMNS, BH_LIMITS_CROWDS);
    limits->columns.reserved = true;
    limits->tenants = part(limits, BH_LIMITS_AT_TENANTS, BH_LIMITS_CELL, BH_LIMITS_TENANTS);
    limits->clients = part(limits, BH_LIMITS_AT_CLIENTS, BH_LIMITS_CELL, BH_LIMITS_CLIENTS);
    limits->crowds = part(limits, BH_LIMITS_AT_CROWDS, BH_LIMITS_CELL, BH_LIMITS_CROWDS);
    limits->quotas = part(limits, BH_LIMITS_AT_QUOTAS, sizeof(struct bh_quota), BH_LIMITS_QUOTAS);
    limits->tenants.near = 16;
    limits->quotas.near = 16; /* the hour before and the one before that keep theirs too */
    limits->clients.fair = true;
    limits->crowds.fair = true;
    limits->crowds.busy = crowd_busy;
}

/* What everybody touches; the cells see to it themselves. */
static enum bh_code
reserve_head(const struct bh_limits *limits, const char *path, struct bh_error *err)
{
    if (fallocate(limits->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)BH_LIMITS_AT_TENANTS) != 0 &&
        errno != EOPNOTSUPP) {
        return bh_fail(err, BH_E_UNAVAILABLE, "no memory for limits %s: %s", path, strerror(errno));
    }
    return BH_OK;
}

enum bh_code
bh_limits_open(
    const char *counters_path, bool claim, struct bh_limits **ret_limits, struct bh_error *err)
{
    char path[PATH_MAX];
    if (!path_of(counters_path, path)) {
        return bh_fail(err, BH_E_CONFIG, "path too long: %s", counters_path);
    }
    struct bh_limits *limits = calloc(1, sizeof(*limits) + BH_LIMITS_PAGES / 8 + 1);
    if (limits == NULL) {
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for the limits");
    }
    limits->pages = (uint8_t *)(limits + 1);
    struct bh_mapped kind = kind_of(NULL);
    enum bh_code code = bh_mapped_open(path, &kind, true, &limits->map, &limits->fd, err);
    if (code != BH_OK) {
        free(limits);
        return code;
    }
    lay_out(limits);
    code = reserve_head(limits, path, err);
    if (code == BH_OK && claim) {
        code = bh_columns_claim(&limits->columns, "concurrent requests", err);
    }
    if (code != BH_OK) {
        bh_limits_close(limits, true);
        return code;
    }
    *ret_limits = limits;
    return BH_OK;
}

bool
bh_limits_replaced(const struct bh_limits *limits, const char *counters_path)
{
    char path[PATH_MAX];
    struct bh_mapped kind = kind_of(&limits->header->file_epoch);
    return path_of(counters_path, path) && bh_mapped_replaced(path, &kind);
}

void
bh_limits_close(struct bh_limits *limits, bool unmap)
{
    if (limits == NULL) {
        return;
    }
    if (unmap) {
        munmap(limits->map, BH_LIMITS_BYTES);
    }
    close(limits->fd);
    free(limits);
}

void
bh_limits_sweep(struct bh_limits *limits)
{
    bh_columns_sweep(&limits->columns);
}

/* ---- for the agent ---- */

uint64_t
bh_limits_epoch(const struct bh_limits *limits)
{
    return limits->header->file_epoch;
}

static bool
visit_range(struct bh_limits *limits, size_t from, size_t to,
    bool (*visit)(struct bh_quota *quota, void *arg), void *arg)
{
    for (size_t at = from; at < to; at += sizeof(struct bh_quota)) {
        struct bh_quota *quota = (struct bh_quota *)(void *)((char *)limits->map + at);
        uint64_t state = atomic_load(&quota->cell.state);
        if (state != 0 && (state & BH_CELL_CLAIMED) == 0 && !visit(quota, arg)) {
            return false;
        }
    }
    return true;
}

/* Reading a hole through the mapping would make it a page. */
void
bh_limits_quotas(
    struct bh_limits *limits, bool (*visit)(struct bh_quota *quota, void *arg), void *arg)
{
    off_t end = (off_t)BH_LIMITS_AT_COLUMNS;
    off_t at = (off_t)BH_LIMITS_AT_QUOTAS;
    while (at < end) {
        off_t data = lseek(limits->fd, at, SEEK_DATA);
        off_t hole = data < 0 ? -1 : lseek(limits->fd, data, SEEK_HOLE);
        if (data < 0 || hole < 0 || data >= end) {
            return;
        }
        hole = hole < end ? hole : end;
        if (!visit_range(limits, (size_t)data, (size_t)hole, visit, arg)) {
            return;
        }
        at = hole;
    }
}

/* Who counts sets the bit afterwards, who looks clears it before: no use is overlooked. */
void
bh_limits_touch(struct bh_limits *limits, const struct bh_quota *quota)
{
    size_t group =
        (size_t)((const char *)quota - limits->quotas.base) / sizeof(*quota) / BH_LIMITS_GROUP;
    uint64_t bit = UINT64_C(1) << group % 64;
    _Atomic uint64_t *word = &limits->touched[group / 64];
    if ((atomic_load(word) & bit) == 0) {
        atomic_fetch_or(word, bit);
    }
}

static size_t
group_at(size_t group)
{
    return BH_LIMITS_AT_QUOTAS + group * BH_LIMITS_GROUP * sizeof(struct bh_quota);
}

void
bh_limits_touched(
    struct bh_limits *limits, bool (*visit)(struct bh_quota *quota, void *arg), void *arg)
{
    for (size_t i = 0; i < BH_LIMITS_WORDS; i++) {
        uint64_t bits = atomic_load(&limits->touched[i]);
        bits = bits == 0 ? 0 : atomic_exchange(&limits->touched[i], 0);
        for (; bits != 0; bits &= bits - 1) {
            size_t group = i * 64 + (size_t)__builtin_ctzll(bits);
            if (!visit_range(limits, group_at(group), group_at(group + 1), visit, arg)) {
                atomic_fetch_or(&limits->touched[i], bits); /* this one too: it was not finished */
                return;
            }
        }
    }
}

static void
raise_to(_Atomic uint64_t *word, uint64_t value)
{
    uint64_t old = atomic_load(word);
    while (old < value && !atomic_compare_exchange_weak(word, &old, value)) {
    }
}

void
bh_quota_lease(struct bh_quota *quota, uint64_t leased, uint64_t elsewhere)
{
    atomic_store(&quota->elsewhere, elsewhere);
    raise_to(&quota->leased, leased);
}

void
bh_limits_renewed(struct bh_limits *limits, uint64_t now_ns)
{
    raise_to(limits->renewed_ns, now_ns);
}

bool
bh_limits_lost(const struct bh_limits *limits, uint64_t now_ns)
{
    uint64_t renewed = atomic_load(limits->renewed_ns);
    return renewed == 0 || (now_ns > renewed && now_ns - renewed > BH_LIMITS_LOST_NS);
}
