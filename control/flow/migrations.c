#include "control/flow/work.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (4L << 20)

/* NNNN_what.sql */
static int
is_migration(const struct dirent *entry)
{
    const char *name = entry->d_name;
    size_t len = strlen(name);
    for (int i = 0; i < 4; i++)
        if (!isdigit((unsigned char)name[i]))
            return 0;
    return name[4] == '_' && len > 9 && strcmp(name + len - 4, ".sql") == 0;
}

static enum bh_code
read_whole(int fd, const char *name, size_t size, char *text, struct bh_error *err)
{
    size_t done = 0;
    while (done < size) {
        ssize_t got = read(fd, text + done, size - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return bh_fail(err, BH_E_CONFIG, "cannot read migration %s: %s", name,
                got < 0 ? strerror(errno) : "it became shorter");
        done += (size_t)got;
    }
    text[size] = 0;
    if (strlen(text) != size)
        return bh_fail(err, BH_E_CONFIG, "migration %s has a NUL byte", name);
    return BH_OK;
}

static enum bh_code
read_file(int dir_fd, const char *name, struct bh_arena *arena, struct bh_migration *migration,
    struct bh_error *err)
{
    struct stat st;
    int fd = openat(dir_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return bh_fail(err, BH_E_CONFIG, "cannot open migration %s: %s", name, strerror(errno));
    enum bh_code code = BH_OK;
    char *text = NULL;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX)
        code = bh_fail(err, BH_E_CONFIG, "migration %s is no file of at most 4 MiB", name);
    else if (!(text = bh_arena_alloc(arena, (size_t)st.st_size + 1)))
        code = bh_fail(err, BH_E_NO_MEMORY, "no memory for migration %s", name);
    else
        code = read_whole(fd, name, (size_t)st.st_size, text, err);
    close(fd);
    BH_TRY(code);
    *migration = (struct bh_migration){bh_arena_strdup(arena, name), text};
    return migration->name ? BH_OK : bh_fail(err, BH_E_NO_MEMORY, "no memory for migrations");
}

static enum bh_code
read_files(int dir_fd, struct dirent **entries, int count, struct bh_arena *arena,
    struct bh_migration **ret_migrations, struct bh_error *err)
{
    struct bh_migration *migrations =
        bh_arena_zalloc(arena, (size_t)(count + 1) * sizeof(*migrations));
    if (!migrations)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for migrations");
    for (int i = 0; i < count; i++)
        BH_TRY(read_file(dir_fd, entries[i]->d_name, arena, &migrations[i], err));
    *ret_migrations = migrations;
    return BH_OK;
}

enum bh_code
bh_migrations_read(const char *dir, struct bh_arena *arena, struct bh_migration **ret_migrations,
    size_t *ret_count, struct bh_error *err)
{
    struct dirent **entries = NULL;
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int count = dir_fd < 0 ? -1 : scandirat(dir_fd, ".", &entries, is_migration, alphasort);
    if (count < 0) {
        bh_fail(err, BH_E_CONFIG, "cannot read the migrations in %s: %s", dir, strerror(errno));
        if (dir_fd >= 0)
            close(dir_fd);
        return BH_E_CONFIG;
    }
    enum bh_code code = read_files(dir_fd, entries, count, arena, ret_migrations, err);
    for (int i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
    close(dir_fd);
    BH_TRY(code);
    *ret_count = (size_t)count;
    return BH_OK;
}
