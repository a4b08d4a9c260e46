#include "snapshot/counters.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/place.h"

#define FILE_BYTES                                                                                 \
    (sizeof(struct bh_counters) + (size_t)BH_COUNTERS_CAPACITY * sizeof(struct bh_slot))

static bool
header_ours(const struct bh_counters *header)
{
    return header->magic == BH_COUNTERS_MAGIC && header->version == BH_COUNTERS_VERSION &&
           header->slot_bytes == sizeof(struct bh_slot) && header->capacity == BH_COUNTERS_CAPACITY;
}

/* BH_E_NOT_READY: no such file, or one that a new one may replace. */
static enum bh_code
map_file(const char *path, struct bh_counters **ret_counters, struct bh_error *err)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return bh_fail(err, errno == ENOENT ? BH_E_NOT_READY : BH_E_CONFIG,
            "cannot open counters %s: %s", path, strerror(errno));
    }
    struct bh_counters header;
    struct stat st;
    bool ours = fstat(fd, &st) == 0 && (size_t)st.st_size == FILE_BYTES &&
                pread(fd, &header, sizeof(header), 0) == (ssize_t)sizeof(header) &&
                header_ours(&header);
    void *map =
        ours ? mmap(NULL, FILE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    int saved = errno;
    close(fd);
    if (!ours) {
        return bh_fail(err, BH_E_NOT_READY, "counters %s are of another version", path);
    }
    if (map == MAP_FAILED) {
        return bh_fail(err, BH_E_UNAVAILABLE, "cannot map %s: %s", path, strerror(saved));
    }
    *ret_counters = map;
    return BH_OK;
}

static enum bh_code
fill_file(int fd, const char *temp, struct bh_error *err)
{
    struct bh_counters header = {
        .magic = BH_COUNTERS_MAGIC,
        .version = BH_COUNTERS_VERSION,
        .slot_bytes = sizeof(struct bh_slot),
        .capacity = BH_COUNTERS_CAPACITY,
    };
    while (header.file_epoch == 0) {
        if (RAND_bytes((unsigned char *)&header.file_epoch, sizeof(header.file_epoch)) != 1) {
            return bh_fail(err, BH_E_INTERNAL, "no randomness for %s", temp);
        }
        /* Travels as a JSON integer that jansson and PostgreSQL hold in 63 bits. */
        header.file_epoch >>= 1;
    }
    if (ftruncate(fd, (off_t)FILE_BYTES) != 0 ||
        pwrite(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header)) {
        return bh_fail(err, BH_E_UNAVAILABLE, "cannot write %s: %s", temp, strerror(errno));
    }
    return BH_OK;
}

static enum bh_code
make_file(const char *path, struct bh_error *err)
{
    char temp[PATH_MAX];
    int len = snprintf(temp, sizeof(temp), "%s.XXXXXX", path);
    if (len < 0 || (size_t)len >= sizeof(temp)) {
        return bh_fail(err, BH_E_CONFIG, "path too long: %s", path);
    }
    int fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0) {
        return bh_fail(
            err, BH_E_UNAVAILABLE, "cannot create a file beside %s: %s", path, strerror(errno));
    }
    enum bh_code code = fill_file(fd, temp, err);
    if (code == BH_OK) {
        code = bh_place_own(fd, path, err);
    }
    close(fd);
    if (code == BH_OK && rename(temp, path) != 0) {
        code = bh_fail(err, BH_E_UNAVAILABLE, "cannot replace %s: %s", path, strerror(errno));
    }
    if (code != BH_OK) {
        unlink(temp);
    }
    return code;
}

enum bh_code
bh_counters_open(
    const char *path, bool create, struct bh_counters **ret_counters, struct bh_error *err)
{
    enum bh_code code = map_file(path, ret_counters, err);
    if (code != BH_E_NOT_READY || !create) {
        return code;
    }
    /* All nginx workers come here at once: one makes the file, the others find it. */
    int dir = bh_place_dir(path);
    if (dir < 0) {
        return bh_fail(err, BH_E_NOT_READY, "no directory for %s: %s", path, strerror(errno));
    }
    while (flock(dir, LOCK_EX) != 0 && errno == EINTR) {
    }
    code = map_file(path, ret_counters, err);
    if (code == BH_E_NOT_READY) {
        code = make_file(path, err);
        if (code == BH_OK) {
            code = map_file(path, ret_counters, err);
        }
    }
    close(dir);
    return code;
}

bool
bh_counters_replaced(const struct bh_counters *counters, const char *path)
{
    struct bh_counters header;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return errno == ENOENT;
    }
    ssize_t len = pread(fd, &header, sizeof(header), 0);
    close(fd);
    return len != (ssize_t)sizeof(header) || header.file_epoch != counters->file_epoch;
}

void
bh_counters_close(struct bh_counters *counters)
{
    if (counters != NULL) {
        munmap(counters, FILE_BYTES);
    }
}
