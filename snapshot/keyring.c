#include "snapshot/keyring.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/codec.h"
#include "core/token.h"
#include "snapshot/place.h"

#define WORDS_MAX 6

/* Cut a line at single spaces.  Returns the number of words, WORDS_MAX + 1 where there are more. */
static size_t
split(struct bh_str line, struct bh_str words[WORDS_MAX])
{
    size_t count = 0;
    struct bh_str word;
    while (bh_str_cut(line, ' ', &word, &line)) {
        if (count >= WORDS_MAX - 1) {
            return WORDS_MAX + 1;
        }
        words[count++] = word;
    }
    words[count++] = line;
    return count;
}

static bool
read_times(const struct bh_str words[2], int64_t *ret_not_before, int64_t *ret_not_after)
{
    uint64_t before;
    uint64_t after;
    if (!bh_str_uint(words[0], INT64_MAX, &before) || !bh_str_uint(words[1], INT64_MAX, &after)) {
        return false;
    }
    *ret_not_before = (int64_t)before;
    *ret_not_after = (int64_t)after;
    return true;
}

static bool
read_user(const struct bh_str *words, struct bh_keyring *keyring)
{
    uint64_t epoch;
    if (keyring->user_count >= BH_KEYRING_USERS_MAX || !bh_str_uint(words[1], UINT32_MAX, &epoch)) {
        return false;
    }
    size_t i = keyring->user_count++;
    keyring->users[i].epoch = (uint32_t)epoch;
    for (size_t k = 0; k < i; k++) {
        if (keyring->users[k].epoch == epoch) {
            return false;
        }
    }
    return bh_hex_decode(words[2], keyring->users[i].key.bytes, BH_KEY_BYTES) &&
           read_times(words + 3, &keyring->users[i].not_before_s, &keyring->users[i].not_after_s);
}

/* The place of a server in the keyring; server_count where it has none. */
static size_t
server_index(const struct bh_keyring *keyring, struct bh_str name)
{
    size_t i = 0;
    while (i < keyring->server_count && !bh_str_is(name, keyring->servers[i].name)) {
        i++;
    }
    return i;
}

static bool
read_server(const struct bh_str *words, struct bh_keyring *keyring)
{
    struct bh_str name = words[1];
    struct bh_str kid = words[2];
    size_t i = server_index(keyring, name);
    if (i >= BH_KEYRING_SERVERS_MAX || name.len >= BH_PGNAME || !bh_token_word_valid(name) ||
        !bh_kid_valid(kid)) {
        return false;
    }
    if (i == keyring->server_count) {
        keyring->server_count++;
        memcpy(keyring->servers[i].name, name.data, name.len);
        keyring->servers[i].name[name.len] = '\0';
    }
    if (keyring->servers[i].row_count >= BH_KEY_ROWS_MAX) {
        return false;
    }
    for (size_t k = 0; k < keyring->servers[i].row_count; k++) {
        if (bh_str_is(kid, keyring->servers[i].rows[k].kid)) {
            return false;
        }
    }
    struct bh_key_row *row = &keyring->servers[i].rows[keyring->servers[i].row_count++];
    memcpy(row->kid, kid.data, kid.len);
    row->kid[kid.len] = '\0';
    return bh_hex_decode(words[3], row->key.bytes, BH_KEY_BYTES) &&
           read_times(words + 4, &row->not_before_s, &row->not_after_s);
}

static bool
read_install(const struct bh_str *words, struct bh_keyring *keyring)
{
    return bh_uid_parse(words[1], &keyring->install);
}

static bool
read_cell(const struct bh_str *words, struct bh_keyring *keyring)
{
    return bh_uid_parse(words[1], &keyring->cell);
}

static bool
read_hash(const struct bh_str *words, struct bh_keyring *keyring)
{
    keyring->has_hash = bh_hex_decode(words[1], keyring->hash.bytes, BH_KEY_BYTES);
    return keyring->has_hash;
}

static bool
read_seal(const struct bh_str *words, struct bh_keyring *keyring)
{
    keyring->has_seal = bh_hex_decode(words[1], keyring->seal.bytes, BH_KEY_BYTES);
    return keyring->has_seal;
}

static const struct item {
    const char *word;
    size_t words;
    bool once;
    bool (*read)(const struct bh_str *words, struct bh_keyring *keyring);
} items[] = {
    {"install", 2, true, read_install},
    {"cell", 2, true, read_cell},
    {"hash", 2, true, read_hash},
    {"seal", 2, true, read_seal},
    {"user", 5, false, read_user},
    {"server", 6, false, read_server},
};
#define ITEM_COUNT (sizeof(items) / sizeof(items[0]))

static bool
read_line(struct bh_str line, unsigned seen[ITEM_COUNT], struct bh_keyring *keyring)
{
    struct bh_str words[WORDS_MAX];
    size_t count = split(line, words);
    for (size_t i = 0; i < ITEM_COUNT; i++) {
        if (count == items[i].words && bh_str_is(words[0], items[i].word)) {
            return (seen[i]++ == 0 || !items[i].once) && items[i].read(words, keyring);
        }
    }
    return false;
}

static enum bh_code
parse(struct bh_str text, struct bh_keyring *keyring, struct bh_error *err)
{
    unsigned seen[ITEM_COUNT] = {0};
    for (unsigned number = 1; text.len > 0; number++) {
        struct bh_str line;
        if (!bh_str_cut(text, '\n', &line, &text)) {
            return bh_fail(err, BH_E_CONFIG, "keyring: line %u has no end", number);
        }
        if (!read_line(line, seen, keyring)) {
            return bh_fail(err, BH_E_CONFIG, "keyring: line %u is not understood", number);
        }
    }
    if (seen[0] == 0 || seen[1] == 0) {
        return bh_fail(err, BH_E_CONFIG, "keyring: install or cell is missing");
    }
    return BH_OK;
}

enum bh_code
bh_keyring_parse(struct bh_str text, struct bh_keyring *ret_keyring, struct bh_error *err)
{
    struct bh_keyring keyring;
    memset(&keyring, 0, sizeof(keyring));
    enum bh_code code = parse(text, &keyring, err);
    if (code == BH_OK) {
        *ret_keyring = keyring;
    }
    bh_wipe(&keyring, sizeof(keyring));
    return code;
}

static void
format_key(struct bh_buf *out, const struct bh_key *key, int64_t not_before, int64_t not_after)
{
    bh_buf_putc(out, ' ');
    bh_buf_hex(out, key->bytes, sizeof(key->bytes));
    bh_buf_putc(out, ' ');
    bh_buf_int(out, not_before);
    bh_buf_putc(out, ' ');
    bh_buf_int(out, not_after);
    bh_buf_putc(out, '\n');
}

static void
format_cell_key(struct bh_buf *out, const char *word, bool has, const struct bh_key *key)
{
    if (has) {
        bh_buf_puts(out, word);
        bh_buf_hex(out, key->bytes, sizeof(key->bytes));
        bh_buf_putc(out, '\n');
    }
}

void
bh_keyring_format(const struct bh_keyring *keyring, struct bh_buf *out)
{
    char install[BH_UID_TEXT];
    char cell[BH_UID_TEXT];
    bh_uid_format(&keyring->install, install);
    bh_uid_format(&keyring->cell, cell);
    bh_buf_printf(out, "install %s\ncell %s\n", install, cell);
    format_cell_key(out, "hash ", keyring->has_hash, &keyring->hash);
    format_cell_key(out, "seal ", keyring->has_seal, &keyring->seal);
    for (size_t i = 0; i < keyring->user_count; i++) {
        bh_buf_printf(out, "user %u", keyring->users[i].epoch);
        format_key(out, &keyring->users[i].key, keyring->users[i].not_before_s,
            keyring->users[i].not_after_s);
    }
    for (size_t i = 0; i < keyring->server_count; i++) {
        for (size_t k = 0; k < keyring->servers[i].row_count; k++) {
            const struct bh_key_row *row = &keyring->servers[i].rows[k];
            bh_buf_printf(out, "server %s %s", keyring->servers[i].name, row->kid);
            format_key(out, &row->key, row->not_before_s, row->not_after_s);
        }
    }
}

/* Read at most ${size} bytes of the file; the number read, or -1 and errno. */
static ssize_t
read_file(int fd, char *data, size_t size)
{
    size_t len = 0;
    while (len < size) {
        ssize_t n = read(fd, data + len, size - len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        if (n == 0) {
            break;
        }
        len += (size_t)n;
    }
    return (ssize_t)len;
}

static enum bh_code
check_file(int fd, const char *path, struct bh_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > BH_KEYRING_FILE_MAX) {
        return bh_fail(err, BH_E_CONFIG, "keyring %s is no regular file of at most %d bytes", path,
            BH_KEYRING_FILE_MAX);
    }
    if ((st.st_mode & 07) != 0) {
        bh_fail(err, BH_E_CONFIG, "keyring %s is open to everybody", path);
        (void)bh_hint(err, "chmod 0400 %s, and rotate its keys", path);
        return BH_E_CONFIG;
    }
    return BH_OK;
}

enum bh_code
bh_keyring_load(const char *path, struct bh_keyring *ret_keyring, struct bh_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return bh_fail(err, errno == ENOENT ? BH_E_NOT_READY : BH_E_CONFIG,
            "cannot read keyring %s: %s", path, strerror(errno));
    }
    enum bh_code code = check_file(fd, path, err);
    char *text = code == BH_OK ? malloc(BH_KEYRING_FILE_MAX) : NULL;
    if (code == BH_OK && text == NULL) {
        code = bh_fail(err, BH_E_NO_MEMORY, "no memory for the keyring");
    }
    if (code == BH_OK) {
        ssize_t len = read_file(fd, text, BH_KEYRING_FILE_MAX);
        code = len < 0 ? bh_fail(err, BH_E_CONFIG, "cannot read %s: %s", path, strerror(errno))
                       : bh_keyring_parse((struct bh_str){text, (size_t)len}, ret_keyring, err);
    }
    if (text != NULL) {
        bh_wipe(text, BH_KEYRING_FILE_MAX);
        free(text);
    }
    close(fd);
    return code;
}

enum bh_code
bh_keyring_store(const char *path, const struct bh_keyring *keyring, struct bh_error *err)
{
    char *text = malloc(BH_KEYRING_FILE_MAX);
    if (text == NULL) {
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for the keyring");
    }
    struct bh_buf out;
    bh_buf_init(&out, text, BH_KEYRING_FILE_MAX);
    bh_keyring_format(keyring, &out);
    enum bh_code code = bh_buf_ok(&out)
                            ? bh_place_replace(path, 0400, bh_buf_str(&out), err)
                            : bh_fail(err, BH_E_TOO_LARGE, "the keyring exceeds its file");
    bh_wipe(text, BH_KEYRING_FILE_MAX);
    free(text);
    return code;
}

const struct bh_key *
bh_keyring_user(const struct bh_keyring *keyring, uint32_t epoch, int64_t now_s)
{
    for (size_t i = 0; i < keyring->user_count; i++) {
        if (keyring->users[i].epoch == epoch && keyring->users[i].not_before_s <= now_s &&
            now_s < keyring->users[i].not_after_s) {
            return &keyring->users[i].key;
        }
    }
    return NULL;
}

const struct bh_key_row *
bh_keyring_server(const struct bh_keyring *keyring, struct bh_str name, int64_t now_s)
{
    size_t i = server_index(keyring, name);
    if (i == keyring->server_count) {
        return NULL;
    }
    const struct bh_key_row *best = NULL;
    for (size_t k = 0; k < keyring->servers[i].row_count; k++) {
        const struct bh_key_row *row = &keyring->servers[i].rows[k];
        bool valid = row->not_before_s <= now_s && now_s < row->not_after_s;
        if (valid && (best == NULL || row->not_before_s > best->not_before_s)) {
            best = row;
        }
    }
    return best;
}
