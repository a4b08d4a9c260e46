#include "snapshot/place.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

int
bh_place_dir(const char *path)
{
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL ? 0 : (size_t)(slash - path);
    if (len >= sizeof(dir)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(dir, path, len);
    dir[len] = '\0';
    const char *name = slash == NULL ? "." : len == 0 ? "/" : dir;
    return open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

enum bh_code
bh_place_own(int fd, const char *path, struct bh_error *err)
{
    if (geteuid() != 0) {
        return BH_OK;
    }
    int dir = bh_place_dir(path);
    struct stat st;
    int rc = dir < 0 ? -1 : fstat(dir, &st);
    if (rc == 0) {
        rc = fd >= 0 ? fchown(fd, st.st_uid, st.st_gid)
                     : fchownat(AT_FDCWD, path, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW);
    }
    int saved = errno;
    if (dir >= 0) {
        close(dir);
    }
    if (rc != 0) {
        return bh_fail(err, BH_E_UNAVAILABLE, "cannot give %s the owner of its directory: %s", path,
            strerror(saved));
    }
    return BH_OK;
}

static int
write_all(int fd, struct bh_str text)
{
    while (text.len > 0) {
        ssize_t n = write(fd, text.data, text.len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        text.data += n;
        text.len -= (size_t)n;
    }
    return fsync(fd);
}

static void
sync_dir(const char *path)
{
    int dir = bh_place_dir(path);
    if (dir >= 0) {
        fsync(dir); /* some file systems cannot; the rename itself is done */
        close(dir);
    }
}

enum bh_code
bh_place_begin(const char *path, char ret_temp[PATH_MAX], int *ret_fd, struct bh_error *err)
{
    int len = snprintf(ret_temp, PATH_MAX, "%s.XXXXXX", path);
    if (len < 0 || len >= PATH_MAX) {
        return bh_fail(err, BH_E_CONFIG, "path too long: %s", path);
    }
    *ret_fd = mkostemp(ret_temp, O_CLOEXEC);
    if (*ret_fd < 0) {
        return bh_fail(
            err, BH_E_UNAVAILABLE, "cannot create a file beside %s: %s", path, strerror(errno));
    }
    return BH_OK;
}

enum bh_code
bh_place_end(int fd, const char *path, const char *temp, enum bh_code code, struct bh_error *err)
{
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
bh_place_replace(const char *path, unsigned mode, struct bh_str text, struct bh_error *err)
{
    char temp[PATH_MAX];
    int fd;
    BH_TRY(bh_place_begin(path, temp, &fd, err));
    enum bh_code code = bh_place_own(fd, path, err);
    if (code == BH_OK && (write_all(fd, text) != 0 || fchmod(fd, (mode_t)mode) != 0)) {
        code = bh_fail(err, BH_E_UNAVAILABLE, "cannot write %s: %s", temp, strerror(errno));
    }
    BH_TRY(bh_place_end(fd, path, temp, code, err));
    sync_dir(path);
    return BH_OK;
}
