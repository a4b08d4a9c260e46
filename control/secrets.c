#include "control/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/registry/registry.h"
#include "core/codec.h"

#define FILE_BYTES_MAX 65536

enum bh_code
bh_secret_read(const char *path, char **ret_text, struct bh_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    ssize_t len = -1;
    char *text;

    if (fd < 0 || fstat(fd, &status) != 0) {
        (void)bh_fail(err, BH_E_CONFIG, "cannot read %s: %s", path, strerror(errno));
        if (fd >= 0)
            (void)close(fd);
        return BH_E_CONFIG;
    }
    if (!S_ISREG(status.st_mode) || (status.st_mode & 077) != 0) {
        (void)close(fd);
        (void)bh_fail(err, BH_E_CONFIG, "%s can be read by others than its owner", path);
        return bh_hint(err, "chmod 0400 %s", path);
    }
    text = malloc(FILE_BYTES_MAX + 1);
    if (text != NULL)
        len = read(fd, text, FILE_BYTES_MAX + 1);
    (void)close(fd);
    if (len >= 0 && len <= FILE_BYTES_MAX) {
        text[len] = '\0';
        *ret_text = text;
        return BH_OK;
    }
    free(text);
    return bh_fail(err, BH_E_CONFIG, "cannot read %s, or it is too large", path);
}

enum bh_code
bh_master_read(const char *path, struct bh_key *ret_key, struct bh_error *err)
{
    char *text;
    struct bh_str digits;
    bool good;

    BH_TRY(bh_secret_read(path, &text, err));
    digits = bh_str_of(text);
    if (digits.len > 0 && digits.data[digits.len - 1] == '\n')
        digits.len--;
    good = bh_hex_decode(digits, ret_key->bytes, sizeof(ret_key->bytes));
    bh_wipe(text, strlen(text));
    free(text);
    if (good)
        return BH_OK;
    return bh_fail(err, BH_E_CONFIG, "%s does not hold 64 hexadecimal digits", path);
}

/* One line of the principals file, into the registry. */
static enum bh_code
ensure_principal(struct bh_db *db, char *line, unsigned number, struct bh_error *err)
{
    char *state = NULL;
    char *words[5];
    uint8_t hash[32];
    bool agent;

    for (size_t i = 0; i < 5; i++)
        words[i] = strtok_r(i == 0 ? line : NULL, " ", &state);
    agent = words[1] != NULL && strcmp(words[1], "agent") == 0;
    if (words[3] == NULL || words[4] != NULL || (!agent && strcmp(words[1], "operator") != 0) ||
        agent == (strcmp(words[2], "-") == 0) ||
        !bh_hex_decode(bh_str_of(words[3]), hash, sizeof(hash)))
        return bh_fail(err, BH_E_CONFIG,
            "line %u of the principals file is not `<id> operator - <hash>` or `<id> agent <cell> <hash>`",
            number);
    return bh_principal_ensure(db, words[0], words[1], agent ? words[2] : NULL, hash, err);
}

enum bh_code
bh_principals_ensure(struct bh_db *db, const char *text, struct bh_error *err)
{
    char *copy = strdup(text);
    char *state = NULL;
    unsigned number = 0;
    enum bh_code code = BH_OK;

    if (copy == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    for (char *line = strtok_r(copy, "\n", &state); line != NULL && code == BH_OK;
         line = strtok_r(NULL, "\n", &state))
        code = ensure_principal(db, line, ++number, err);
    free(copy);
    return code;
}
