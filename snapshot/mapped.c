#include "snapshot/mapped.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshot/place.h"

static bool
read_header(int fd, const struct bh_mapped *kind, void *header)
{
    return pread(fd, header, kind->header_bytes, 0) == (ssize_t)kind->header_bytes;
}

/* BH_E_NOT_READY: no such file, or one that a new one may replace. */
static enum bh_code
map_file(const char *path, const struct bh_mapped *kind, void **ret_map, int *ret_fd,
    struct bh_error *err)
{
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return bh_fail(err, errno == ENOENT ? BH_E_NOT_READY : BH_E_CONFIG, "cannot open %s %s: %s",
            kind->what, path, strerror(errno));
    }
    _Alignas(8) char header[BH_MAPPED_HEADER_MAX];
    struct stat st;
    bool ours = fstat(fd, &st) == 0 && (size_t)st.st_size == kind->bytes &&
                read_header(fd, kind, header) && kind->ours(header, kind->arg);
    void *map =
        ours ? mmap(NULL, kind->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    int saved = errno;
    if (map != MAP_FAILED && ret_fd != NULL) {
        *ret_fd = fd;
    } else {
        close(fd);
    }
    if (!ours) {
        return bh_fail(err, BH_E_NOT_READY, "%s %s are of another version", kind->what, path);
    }
    if (map == MAP_FAILED) {
        return bh_fail(err, BH_E_UNAVAILABLE, "cannot map %s: %s", path, strerror(saved));
    }
    *ret_map = map;
    return BH_OK;
}

static enum bh_code
fill_file(int fd, const char *temp, const struct bh_mapped *kind, struct bh_error *err)
{
    _Alignas(8) char header[BH_MAPPED_HEADER_MAX] = {0};
    BH_TRY(kind->fill(header, kind->arg, err));
    if (ftruncate(fd, (off_t)kind->bytes) != 0 ||
        pwrite(fd, header, kind->header_bytes, 0) != (ssize_t)kind->header_bytes) {
        return bh_fail(err, BH_E_UNAVAILABLE, "cannot write %s: %s", temp, strerror(errno));
    }
    return BH_OK;
}

static enum bh_code
make_file(const char *path, const struct bh_mapped *kind, struct bh_error *err)
{
    char temp[PATH_MAX];
    int fd;
    BH_TRY(bh_place_begin(path, temp, &fd, err));
    enum bh_code code = fill_file(fd, temp, kind, err);
    if (code == BH_OK) {
        code = bh_place_own(fd, path, err);
    }
    return bh_place_end(fd, path, temp, code, err);
}

enum bh_code
bh_mapped_open(const char *path, const struct bh_mapped *kind, bool create, void **ret_map,
    int *ret_fd, struct bh_error *err)
{
    enum bh_code code = map_file(path, kind, ret_map, ret_fd, err);
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
    code = map_file(path, kind, ret_map, ret_fd, err);
    if (code == BH_E_NOT_READY) {
        code = make_file(path, kind, err);
        if (code == BH_OK) {
            code = map_file(path, kind, ret_map, ret_fd, err);
        }
    }
    close(dir);
    return code;
}

bool
bh_mapped_replaced(const char *path, const struct bh_mapped *kind)
{
    _Alignas(8) char header[BH_MAPPED_HEADER_MAX];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return errno == ENOENT;
    }
    bool other = !read_header(fd, kind, header) || !kind->ours(header, kind->arg);
    close(fd);
    return other;
}
