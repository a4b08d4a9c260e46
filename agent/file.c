#include "agent/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_MAX ((size_t)64 << 20)

static enum bh_code
fail_errno(struct bh_error *err, const char *what, const char *path)
{
    int saved = errno;
    enum bh_code code = saved == ENOENT                      ? BH_E_NOT_FOUND
                        : saved == ENOSPC || saved == EDQUOT ? BH_E_UNAVAILABLE
                                                             : BH_E_CONFIG;
    return bh_fail(err, code, "cannot %s %s: %s", what, path, strerror(saved));
}

/* Read ${size} bytes of ${fd}, no more and no less. */
static bool
read_all(int fd, char *data, size_t size)
{
    size_t done = 0;
    while (done < size) {
        ssize_t n = read(fd, data + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

static bool
write_all(int fd, struct bh_str text)
{
    size_t done = 0;
    while (done < text.len) {
        ssize_t n = write(fd, text.data + done, text.len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        done += (size_t)n;
    }
    return true;
}

/* The whole of an open file into ${arena}. */
static enum bh_code
take_text(int fd, const char *path, size_t max, struct bh_arena *arena, struct bh_str *ret_text,
    struct bh_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return fail_errno(err, "stat", path);
    if (!S_ISREG(st.st_mode))
        return bh_fail(err, BH_E_CONFIG, "%s is not a regular file", path);
    if ((uint64_t)st.st_size > max)
        return bh_fail(err, BH_E_TOO_LARGE, "%s is larger than %zu bytes", path, max);
    char *data = bh_arena_alloc(arena, (size_t)st.st_size + 1);
    if (data == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory to read %s", path);
    if (!read_all(fd, data, (size_t)st.st_size))
        return bh_fail(err, BH_E_CONFIG, "cannot read %s whole", path);
    data[st.st_size] = '\0';
    *ret_text = (struct bh_str){data, (size_t)st.st_size};
    return BH_OK;
}

enum bh_code
bh_file_read(const char *path, size_t max, struct bh_arena *arena, struct bh_str *ret_text,
    struct bh_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return fail_errno(err, "open", path);
    enum bh_code code = take_text(fd, path, max, arena, ret_text, err);
    close(fd);
    return code;
}

/* Does ${path} hold ${text} with ${mode} already? */
static bool
holds(const char *path, struct bh_str text, mode_t mode)
{
    struct stat st;
    if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode) || (st.st_mode & 07777) != mode ||
        (size_t)st.st_size != text.len)
        return false;
    struct bh_chunks chunks;
    bh_chunks_init(&chunks);
    struct bh_str now = {NULL, 0};
    bool same =
        bh_file_read(path, text.len, &chunks.arena, &now, NULL) == BH_OK && bh_str_eq(now, text);
    bh_chunks_fini(&chunks);
    return same;
}

enum bh_code
bh_file_put(
    const char *path, struct bh_str text, mode_t mode, bool *ret_changed, struct bh_error *err)
{
    if (ret_changed)
        *ret_changed = false;
    if (holds(path, text, mode))
        return BH_OK;
    char temp[PATH_MAX];
    if ((size_t)snprintf(temp, sizeof(temp), "%s.new", path) >= sizeof(temp))
        return bh_fail(err, BH_E_CONFIG, "path too long: %s", path);
    (void)unlink(temp);
    int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fail_errno(err, "create", temp);
    bool ok = write_all(fd, text) && fchmod(fd, mode) == 0 && fsync(fd) == 0;
    enum bh_code code = ok ? BH_OK : fail_errno(err, "write", temp);
    if (close(fd) != 0 && ok)
        code = fail_errno(err, "write", temp);
    if (code == BH_OK && rename(temp, path) != 0)
        code = fail_errno(err, "replace", path);
    if (code != BH_OK)
        (void)unlink(temp);
    else if (ret_changed)
        *ret_changed = true;
    return code;
}

enum bh_code
bh_dir_make(const char *path, mode_t mode, uid_t uid, gid_t gid, struct bh_error *err)
{
    if (mkdir(path, mode) != 0 && errno != EEXIST)
        return fail_errno(err, "make directory", path);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(err, "open directory", path);
    struct stat st;
    bool ok = fstat(fd, &st) == 0;
    if (ok && (st.st_uid != uid || st.st_gid != gid))
        ok = fchown(fd, uid, gid) == 0;
    if (ok && (st.st_mode & 07777) != mode)
        ok = fchmod(fd, mode) == 0;
    enum bh_code code = ok ? BH_OK : fail_errno(err, "take over directory", path);
    close(fd);
    return code;
}

enum bh_code
bh_file_copy(const char *from, const char *to, mode_t mode, struct bh_error *err)
{
    struct bh_chunks chunks;
    bh_chunks_init(&chunks);
    struct bh_str text;
    enum bh_code code = bh_file_read(from, COPY_MAX, &chunks.arena, &text, err);
    if (code == BH_OK)
        code = bh_file_put(to, text, mode, NULL, err);
    bh_chunks_fini(&chunks);
    return code;
}

static bool
is_dots(const char *name)
{
    return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

/* Remove ${path}, with all below it where it is a directory. */
static void
remove_tree(const char *path)
{
    if (unlink(path) == 0 || errno != EISDIR)
        return;
    DIR *dir = opendir(path);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char below[PATH_MAX];
        if (!is_dots(entry->d_name) &&
            (size_t)snprintf(below, sizeof(below), "%s/%s", path, entry->d_name) < sizeof(below))
            remove_tree(below);
    }
    closedir(dir);
    (void)rmdir(path);
}

static void
remove_strangers(const char *from, const char *to)
{
    DIR *dir = opendir(to);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        char there[PATH_MAX], here[PATH_MAX];
        struct stat st;
        if (is_dots(entry->d_name) ||
            (size_t)snprintf(there, sizeof(there), "%s/%s", from, entry->d_name) >= sizeof(there) ||
            (size_t)snprintf(here, sizeof(here), "%s/%s", to, entry->d_name) >= sizeof(here))
            continue;
        if (lstat(there, &st) != 0 && errno == ENOENT)
            remove_tree(here);
    }
    closedir(dir);
}

static enum bh_code
copy_entry(const char *from, const char *to, const char *name, struct bh_error *err)
{
    char source[PATH_MAX], target[PATH_MAX];
    if ((size_t)snprintf(source, sizeof(source), "%s/%s", from, name) >= sizeof(source) ||
        (size_t)snprintf(target, sizeof(target), "%s/%s", to, name) >= sizeof(target))
        return bh_fail(err, BH_E_CONFIG, "path too long: %s/%s", from, name);
    struct stat st;
    if (lstat(source, &st) != 0)
        return fail_errno(err, "stat", source);
    if (S_ISDIR(st.st_mode))
        return bh_tree_copy(source, target, err);
    return S_ISREG(st.st_mode) ? bh_file_copy(source, target, 0644, err) : BH_OK;
}

enum bh_code
bh_tree_copy(const char *from, const char *to, struct bh_error *err)
{
    DIR *dir = opendir(from);
    if (!dir)
        return fail_errno(err, "open directory", from);
    enum bh_code code = bh_dir_make(to, 0755, geteuid(), getegid(), err);
    for (struct dirent *entry; code == BH_OK && (entry = readdir(dir));)
        if (!is_dots(entry->d_name))
            code = copy_entry(from, to, entry->d_name, err);
    closedir(dir);
    if (code == BH_OK)
        remove_strangers(from, to);
    return code;
}
