#include "snapshot/columns.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

struct bh_columns
bh_columns_of(void *map, int fd, size_t at, uint32_t capacity)
{
    char *base = map;
    return (struct bh_columns){
        .owners = (_Atomic uint32_t *)(void *)(base + BH_COLUMNS_OWNERS),
        .used = (_Atomic uint32_t *)(void *)(base + BH_COLUMNS_USED),
        .cells = (_Atomic uint32_t *)(void *)(base + at),
        .at = at,
        .capacity = capacity,
        .fd = fd,
        .mine = -1,
    };
}

static bool
lock_column(const struct bh_columns *columns, int column, short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = column, .l_len = 1};
    return fcntl(columns->fd, F_OFD_SETLK, &lock) == 0;
}

/* In the file, of a column. */
static int
change_range(const struct bh_columns *columns, int column, int mode)
{
    size_t bytes = (size_t)columns->capacity * sizeof(uint32_t);
    off_t at = (off_t)(columns->at + (size_t)column * bytes);
    return fallocate(columns->fd, mode | FALLOC_FL_KEEP_SIZE, at, (off_t)bytes);
}

/* With its lock held: what its last owner left counts no more. */
static void
clear_column(struct bh_columns *columns, int column)
{
    /* By hand where there is no tmpfs, or where a reader must not meet a hole. */
    if (columns->reserved || change_range(columns, column, FALLOC_FL_PUNCH_HOLE) != 0) {
        memset(columns->cells + (size_t)column * columns->capacity, 0,
            (size_t)columns->capacity * sizeof(uint32_t));
    }
    atomic_store(&columns->owners[column], 0);
}

static void
raise_used(struct bh_columns *columns, uint32_t count)
{
    uint32_t old = atomic_load(columns->used);
    while (old < count && !atomic_compare_exchange_weak(columns->used, &old, count)) {
    }
}

enum bh_code
bh_columns_claim(struct bh_columns *columns, const char *what, struct bh_error *err)
{
    for (int column = 0; column < BH_COLUMNS; column++) {
        if (!lock_column(columns, column, F_WRLCK)) {
            continue;
        }
        if (columns->reserved && change_range(columns, column, 0) != 0 && errno != EOPNOTSUPP) {
            (void)lock_column(columns, column, F_UNLCK);
            return bh_fail(
                err, BH_E_UNAVAILABLE, "no memory for a column of %s: %s", what, strerror(errno));
        }
        clear_column(columns, column);
        atomic_store(&columns->owners[column], (uint32_t)getpid());
        raise_used(columns, (uint32_t)column + 1);
        columns->mine = column;
        return BH_OK;
    }
    bh_fail(err, BH_E_UNAVAILABLE, "all %d columns of %s are in use", BH_COLUMNS, what);
    return bh_hint(err, "wait until old workers have ended");
}

void
bh_columns_sweep(struct bh_columns *columns)
{
    int used = (int)atomic_load(columns->used);
    for (int column = 0; column < used; column++) {
        if (column == columns->mine || atomic_load(&columns->owners[column]) == 0 ||
            !lock_column(columns, column, F_WRLCK)) {
            continue;
        }
        clear_column(columns, column);
        (void)lock_column(columns, column, F_UNLCK);
    }
}

_Atomic uint32_t *
bh_columns_mine(struct bh_columns *columns, uint32_t index)
{
    if (columns->mine < 0 || index >= columns->capacity) {
        return NULL;
    }
    return &columns->cells[(size_t)columns->mine * columns->capacity + index];
}

uint32_t
bh_columns_sum(const struct bh_columns *columns, uint32_t index)
{
    uint32_t used = atomic_load(columns->used);
    uint32_t sum = 0;
    for (uint32_t column = 0; index < columns->capacity && column < used; column++) {
        if (atomic_load(&columns->owners[column]) != 0) {
            sum += atomic_load(&columns->cells[(size_t)column * columns->capacity + index]);
        }
    }
    return sum;
}
