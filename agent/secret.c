#include "agent/secret.h"

#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

#include "agent/file.h"
#include "core/codec.h"

#define SECRET_FILE_MAX 4096

enum bh_code
bh_secret_make(char ret_text[BH_SECRET_TEXT], struct bh_error *err)
{
    uint8_t bytes[32];
    struct bh_buf buf;
    if (RAND_bytes(bytes, sizeof(bytes)) != 1)
        return bh_fail(err, BH_E_INTERNAL, "no randomness for a secret");
    bh_buf_init(&buf, ret_text, BH_SECRET_TEXT);
    bh_buf_hex(&buf, bytes, sizeof(bytes));
    bh_wipe(bytes, sizeof(bytes));
    return BH_OK;
}

void
bh_passwords_wipe(struct bh_passwords *passwords)
{
    bh_wipe(passwords, sizeof(*passwords));
}

static enum bh_code
make_token(const char *path, const char *prefix, char *ret_token, size_t size, struct bh_error *err)
{
    char secret[BH_SECRET_TEXT], line[SECRET_FILE_MAX];
    BH_TRY(bh_secret_make(secret, err));
    snprintf(ret_token, size, "%s%s", prefix, secret);
    int len = snprintf(line, sizeof(line), "%s\n", ret_token);
    enum bh_code code = bh_file_put(path, (struct bh_str){line, (size_t)len}, 0600, NULL, err);
    bh_wipe(secret, sizeof(secret));
    bh_wipe(line, sizeof(line));
    return code;
}

enum bh_code
bh_token_ensure(
    const char *path, const char *prefix, char *ret_token, size_t size, struct bh_error *err)
{
    struct bh_chunks chunks;
    struct bh_str text;
    bh_chunks_init(&chunks);
    enum bh_code code = bh_file_read(path, SECRET_FILE_MAX, &chunks.arena, &text, err);
    if (code == BH_E_NOT_FOUND) {
        code = make_token(path, prefix, ret_token, size, err);
    } else if (code == BH_OK) {
        size_t len = strcspn(text.data, "\n");
        bool ok = len >= 32 && len < size && (len == text.len || len + 1 == text.len) &&
                  strspn(text.data, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV"
                                    "WXYZ_-.") == len;
        if (ok)
            snprintf(ret_token, size, "%.*s", (int)len, text.data);
        else
            code = bh_fail(err, BH_E_CONFIG, "%s holds no usable token", path);
        if (!ok)
            bh_hint(err, "remove it, and `bulkhead up` makes a new one");
        bh_wipe((void *)(uintptr_t)text.data, text.len);
    }
    bh_chunks_fini(&chunks);
    return code;
}

/* Lines are host:port:database:user:password, as we wrote them: nothing is escaped in ours. */
bool
bh_passfile_find(struct bh_str text, const char *user, char ret_password[BH_SECRET_TEXT])
{
    struct bh_str line, rest = text;
    while (bh_str_cut(rest, '\n', &line, &rest)) {
        struct bh_str part, tail = line;
        bool ok = true;
        for (int i = 0; i < 3 && ok; i++)
            ok = bh_str_cut(tail, ':', &part, &tail);
        if (!ok || !bh_str_cut(tail, ':', &part, &tail) || !bh_str_is(part, user) ||
            tail.len != BH_SECRET_TEXT - 1)
            continue;
        memcpy(ret_password, tail.data, tail.len);
        ret_password[tail.len] = '\0';
        return true;
    }
    return false;
}

void
bh_passfile_add(struct bh_buf *out, uint16_t port, const char *user, const char *password)
{
    bh_buf_printf(out, "127.0.0.1:%u:*:%s:%s\n", port, user, password);
}

enum bh_code
bh_passwords_read(const struct bh_site *site, struct bh_arena *arena,
    struct bh_passwords *ret_passwords, struct bh_error *err)
{
    char path[PATH_MAX];
    struct bh_str control, app;
    bh_site_path(site, "keys/control.pgpass", path);
    BH_TRY(bh_file_read(path, SECRET_FILE_MAX, arena, &control, err));
    bh_site_path(site, "keys/app.pgpass", path);
    BH_TRY(bh_file_read(path, SECRET_FILE_MAX, arena, &app, err));
    bool ok = bh_passfile_find(control, "postgres", ret_passwords->superuser) &&
              bh_passfile_find(control, "bulkhead_registry", ret_passwords->registry) &&
              bh_passfile_find(app, "bulkhead_pool", ret_passwords->pool);
    bh_wipe((void *)(uintptr_t)control.data, control.len);
    bh_wipe((void *)(uintptr_t)app.data, app.len);
    return ok ? BH_OK
              : bh_fail(err, BH_E_CONFIG, "the passfiles in %s/keys are damaged", site->state);
}
