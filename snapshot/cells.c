#include "snapshot/cells.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define BROKEN_NS UINT64_C(60000000000) /* a claim that takes longer was broken off */
#define LOCKS 256
#define LOCKS_AT 4096 /* bytes before are locks of columns */
#define LOCK_TRIES 2000

/* Near: from the tenant's number on.  By hash: the places of one group, from any of them on. */
static struct bh_cell *
place(const struct bh_cells *cells, const struct bh_cell_key *key, unsigned i)
{
    uint64_t at =
        key->word[0] / BH_CELL_PLACES * BH_CELL_PLACES + (key->word[0] + i) % BH_CELL_PLACES;
    if (cells->near > 0) {
        at = (uint64_t)key->no * cells->near + key->word[0] % cells->near + i;
    }
    return (struct bh_cell *)(void *)(cells->base + (at & (cells->capacity - 1)) * cells->stride);
}

/*
 * To touch a page that the file system has no room for is SIGBUS, and a flood of clients touches
 * many: so it is asked for before, and a quarter of a small file system stays for what others
 * count there.
 */
static bool
get_page(const struct bh_cells *cells, size_t page)
{
    struct statvfs room;
    int rc;
    if (fstatvfs(cells->fd, &room) == 0 && room.f_blocks > 0 && room.f_bavail < room.f_blocks / 4) {
        return false;
    }
    do {
        rc = fallocate(cells->fd, FALLOC_FL_KEEP_SIZE, (off_t)(page * BH_CELL_PAGE), BH_CELL_PAGE);
    } while (rc != 0 && errno == EINTR);
    return rc == 0 || errno == EOPNOTSUPP;
}

static bool
has_page(const struct bh_cells *cells, const struct bh_cell *cell)
{
    size_t page = (size_t)((const char *)cell - cells->map) / BH_CELL_PAGE;
    uint8_t bit = (uint8_t)(1U << page % 8);
    if ((cells->pages[page / 8] & bit) == 0) {
        if (!get_page(cells, page)) {
            return false;
        }
        cells->pages[page / 8] |= bit;
    }
    return true;
}

static bool
has_memory(const struct bh_cells *cells, const struct bh_cell_key *key)
{
    return has_page(cells, place(cells, key, 0)) &&
           has_page(cells, place(cells, key, BH_CELL_PLACES - 1));
}

bool
bh_cell_holds(const struct bh_cell *cell, const struct bh_cell_key *key)
{
    return (atomic_load(&cell->state) & BH_CELL_CLAIMED) == 0 &&
           atomic_load_explicit(&cell->key[0], memory_order_acquire) == key->word[0] &&
           atomic_load_explicit(&cell->key[1], memory_order_acquire) == key->word[1];
}

/* Claims take the first free place, so nothing lies behind one that was never used. */
static bool
never_used(const struct bh_cell *cell)
{
    return atomic_load_explicit(&cell->key[0], memory_order_relaxed) == 0 &&
           atomic_load_explicit(&cell->state, memory_order_relaxed) == 0;
}

struct bh_cell *
bh_cells_find(const struct bh_cells *cells, const struct bh_cell_key *key)
{
    if (!has_memory(cells, key)) {
        return NULL;
    }
    for (unsigned i = 0; i < BH_CELL_PLACES; i++) {
        struct bh_cell *cell = place(cells, key, i);
        if (bh_cell_holds(cell, key)) {
            return cell;
        }
        if (never_used(cell)) {
            return NULL;
        }
    }
    return NULL;
}

static bool
is_free(const struct bh_cells *cells, const struct bh_cell *cell, uint64_t state, uint64_t now_ns)
{
    if ((state & BH_CELL_CLAIMED) != 0) {
        return (state & ~BH_CELL_CLAIMED) + BROKEN_NS <= now_ns;
    }
    return state <= now_ns && (cells->busy == NULL || !cells->busy(cells->arg, cell));
}

/* How the places of ${key} stand: its tenant's share of what is free. */
static bool
has_room(const struct bh_cells *cells, const struct bh_cell_key *key, uint64_t now_ns)
{
    unsigned mine = 0;
    unsigned unused = 0;
    for (unsigned i = 0; i < BH_CELL_PLACES; i++) {
        const struct bh_cell *cell = place(cells, key, i);
        if (is_free(cells, cell, atomic_load(&cell->state), now_ns)) {
            unused++;
        } else if (atomic_load(&cell->no) == key->no) {
            mine++;
        }
    }
    return unused > 0 && (!cells->fair || mine == 0 || mine < unused / 4);
}

static bool
swap(_Atomic uint64_t *word, uint64_t old, uint64_t fresh)
{
    return atomic_compare_exchange_strong(word, &old, fresh);
}

/*
 * Make a free cell ours.  Each store compares: a process that was stopped in here
 * for more than a minute and wakes up finds its cell taken over and leaves it.
 */
static bool
take_over(const struct bh_cells *cells, struct bh_cell *cell, const struct bh_cell_key *key,
    uint64_t now_ns)
{
    uint64_t state = atomic_load(&cell->state);
    uint64_t mark = now_ns | BH_CELL_CLAIMED;
    if (!is_free(cells, cell, state, now_ns) || !swap(&cell->state, state, mark)) {
        return false;
    }
    if (cells->busy != NULL && cells->busy(cells->arg, cell)) { /* meanwhile */
        (void)swap(&cell->state, mark, now_ns);
        return false;
    }
    if (!swap(&cell->key[0], atomic_load(&cell->key[0]), key->word[0]) ||
        !swap(&cell->key[1], atomic_load(&cell->key[1]), key->word[1])) {
        return false;
    }
    atomic_store(&cell->no, key->no);
    return true;
}

static bool
lock_key(const struct bh_cells *cells, const struct bh_cell_key *key, short type)
{
    struct flock lock = {.l_type = type,
        .l_whence = SEEK_SET,
        .l_start = LOCKS_AT + (off_t)(key->word[1] % LOCKS),
        .l_len = 1};
    return fcntl(cells->fd, F_OFD_SETLK, &lock) == 0;
}

/* A holder is at work for a µs; one that was stopped must not stop us. */
static bool
wait_lock(const struct bh_cells *cells, const struct bh_cell_key *key)
{
    for (unsigned i = 0; i < LOCK_TRIES; i++) {
        if (lock_key(cells, key, F_WRLCK)) {
            return true;
        }
        sched_yield();
    }
    return false;
}

struct bh_cell *
bh_cells_claim(const struct bh_cells *cells, const struct bh_cell_key *key, uint64_t now_ns,
    uint64_t (*begin)(struct bh_cell *cell, const void *arg), const void *arg)
{
    if (!has_memory(cells, key) || !wait_lock(cells, key)) {
        return NULL;
    }
    struct bh_cell *found = bh_cells_find(cells, key);
    bool room = found == NULL && has_room(cells, key, now_ns);
    for (unsigned i = 0; room && found == NULL && i < BH_CELL_PLACES; i++) {
        struct bh_cell *cell = place(cells, key, i);
        if (take_over(cells, cell, key, now_ns)) {
            uint64_t state = begin == NULL ? now_ns : begin(cell, arg);
            found = swap(&cell->state, now_ns | BH_CELL_CLAIMED, state) ? cell : NULL;
        }
    }
    (void)lock_key(cells, key, F_UNLCK);
    return found;
}
