#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/codec.h"
#include "data/keys.h"
#include "data/raise.h"
#include "data/settings.h"

#define KEY_FILE_MAX 4096

struct row {
    char kid[BH_KID_MAX];
    int64_t not_before_s;
    int64_t not_after_s;
    struct bh_mac *mac;
};

static struct row rows[BH_KEY_ROWS_MAX];
static size_t row_count;
static bool loaded;
static uint64 generation;
static char problem[256];     /* of the last load; empty: none */
static TimestampTz loaded_at; /* PgReloadTime then */
static char *database;

const char *
bh_keys_database(void)
{
    if (database == NULL) {
        char *name = get_database_name(MyDatabaseId);

        if (name == NULL)
            bh_raise_refused("this database is gone", NULL);
        database = MemoryContextStrdup(TopMemoryContext, name);
    }
    return database;
}

static void
forget_rows(void)
{
    for (size_t i = 0; i < row_count; i++)
        bh_mac_free(rows[i].mac);
    memset(rows, 0, sizeof(rows));
    row_count = 0;
}

/* The clients hear only that there is no key; the log and selfcheck() say why. */
static void BH_PRINTF(1, 2) complain(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)vsnprintf(problem, sizeof(problem), format, args);
    va_end(args);
    ereport(LOG, (errmsg("bulkhead.key_file \"%s\" %s", bh_key_file, problem)));
}

/* A key file that others can read has lost its secret; one that others can write is not ours. */
static bool
file_trusted(int fd)
{
    struct stat st;

    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        complain("is not a regular file");
        return false;
    }
    if ((st.st_mode & 077) != 0 || (st.st_uid != geteuid() && st.st_uid != 0)) {
        complain("is open to other users: chmod 0400 and chown it to the server's user");
        return false;
    }
    if (st.st_size > KEY_FILE_MAX) {
        complain("is too large");
        return false;
    }
    return true;
}

static bool
read_all(int fd, char *ret_text, size_t *ret_len)
{
    size_t len = 0;

    while (len < KEY_FILE_MAX) {
        ssize_t got = read(fd, ret_text + len, KEY_FILE_MAX - len);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return false;
        if (got == 0)
            break;
        len += (size_t)got;
    }
    *ret_len = len;
    return true;
}

static bool
read_file(char *ret_text, size_t *ret_len)
{
    int fd;
    bool ok;

    if (bh_key_file == NULL || bh_key_file[0] == '\0') {
        complain("is not set");
        return false;
    }
    fd = open(bh_key_file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        complain("cannot be opened: %s", strerror(errno));
        return false;
    }
    ok = file_trusted(fd);
    if (ok && !read_all(fd, ret_text, ret_len)) {
        ok = false;
        complain("cannot be read: %s", strerror(errno));
    }
    close(fd);
    return ok;
}

/* Key one row's MAC with the key of this database. */
static bool
add_row(const struct bh_key_row *from, struct bh_error *err)
{
    struct row *row = &rows[row_count];
    struct bh_key key;
    enum bh_code code = bh_key_database(&from->key, bh_str_of(bh_keys_database()), &key, err);

    if (code == BH_OK)
        code = bh_mac_new(&key, &row->mac, err);
    bh_wipe(&key, sizeof(key));
    if (code != BH_OK)
        return false;
    memcpy(row->kid, from->kid, sizeof(row->kid));
    row->not_before_s = from->not_before_s;
    row->not_after_s = from->not_after_s;
    row_count++;
    return true;
}

static void
load_rows(void)
{
    char text[KEY_FILE_MAX];
    struct bh_key_row found[BH_KEY_ROWS_MAX];
    struct bh_error err = {0};
    size_t len = 0;
    size_t count = 0;
    bool ok;

    bh_keys_database(); /* may raise: before secrets are on the stack */
    forget_rows();
    loaded = true;
    generation++;
    loaded_at = PgReloadTime;
    problem[0] = '\0';
    if (!read_file(text, &len))
        return;
    ok = bh_key_file_parse((struct bh_str){text, len}, found, &count, &err) == BH_OK;
    for (size_t i = 0; ok && i < count; i++)
        ok = add_row(&found[i], &err);
    bh_wipe(text, sizeof(text));
    bh_wipe(found, sizeof(found));
    if (ok)
        return;
    forget_rows();
    complain("cannot be used: %s", err.detail);
}

struct bh_mac *
bh_keys_find(struct bh_str kid, int64_t now_s)
{
    if (!loaded || loaded_at != PgReloadTime)
        load_rows();
    if (row_count == 0)
        bh_raise_refused("this server has no usable key",
            "The server's log says what is wrong with bulkhead.key_file.");
    for (size_t i = 0; i < row_count; i++) {
        if (!bh_str_is(kid, rows[i].kid))
            continue;
        if (now_s < rows[i].not_before_s || now_s > rows[i].not_after_s)
            bh_raise_refused("its key is outside its validity", NULL);
        return rows[i].mac;
    }
    bh_raise_refused("its key is not known here", NULL);
}

uint64
bh_keys_generation(void)
{
    return generation;
}

const char *
bh_keys_problem(void)
{
    load_rows();
    if (problem[0] == '\0' && row_count == 0)
        return "has no key";
    return problem[0] == '\0' ? NULL : problem;
}
