#include "control/api/page.h"

#include <openssl/sha.h>
#include <string.h>

#include "core/codec.h"
#include "core/time.h"

#define LIMIT_MAX 500
#define LIMIT_DEFAULT 50
#define DIGEST_BYTES 8
#define TOKEN_BYTES 512

void
bh_param_bad(struct bh_request *request, const char *name, const char *detail)
{
    const char *pointer = bh_arena_printf(request->arena, "?%s", name);

    if (pointer == NULL)
        request->issues.failed = true;
    else
        (void)bh_issues_add(&request->issues, BH_ISSUE_VALUE, NULL, pointer, detail);
}

void
bh_param_time(struct bh_request *request, const char *name, int64_t *time_us)
{
    const char *text = bh_query_get(&request->query, name);

    if (text != NULL && !bh_time_parse(bh_str_of(text), time_us))
        bh_param_bad(request, name, "must be a time as in RFC 3339");
}

/* Path and filters, each with its length, so that no two lists share a digest. */
static void
digest_filters(const struct bh_request *request, uint8_t digest[SHA256_DIGEST_LENGTH])
{
    static const char *const filters[] = {
        "state", "q", "tenant", "meter", "from", "to", "code", "server", "database"};
    struct bh_buf text;
    char storage[4096];

    bh_buf_init(&text, storage, sizeof(storage));
    bh_buf_str_add(&text, request->path);
    for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
        const char *value = bh_query_get(&request->query, filters[i]);
        if (value != NULL)
            bh_buf_printf(&text, "\n%s %zu %s", filters[i], strlen(value), value);
    }
    (void)SHA256((const unsigned char *)text.data, text.len, digest);
}

static const char *
read_token(struct bh_request *request, const char *token)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    uint8_t bytes[TOKEN_BYTES];
    size_t len;

    digest_filters(request, digest);
    if (!bh_base64url_decode(bh_str_of(token), bytes, sizeof(bytes), &len) || len <= DIGEST_BYTES)
        goto bad;
    for (size_t i = DIGEST_BYTES; i < len; i++)
        if (bytes[i] < 0x20 || bytes[i] > 0x7e)
            goto bad;
    if (memcmp(bytes, digest, DIGEST_BYTES) != 0)
        goto bad;
    return bh_arena_strndup(request->arena, (const char *)bytes + DIGEST_BYTES, len - DIGEST_BYTES);
bad:
    bh_param_bad(request, "page_token", "is no page token of this list with these filters");
    return NULL;
}

void
bh_page_read(struct bh_request *request, int *ret_limit, const char **ret_after)
{
    const char *limit = bh_query_get(&request->query, "limit");
    const char *token = bh_query_get(&request->query, "page_token");
    uint64_t number = LIMIT_DEFAULT;

    if (limit != NULL && (!bh_str_uint(bh_str_of(limit), LIMIT_MAX, &number) || number == 0))
        bh_param_bad(request, "limit", "must be a whole number from 1 to 500");
    *ret_limit = (int)number;
    *ret_after = token == NULL || token[0] == '\0' ? NULL : read_token(request, token);
}

void
bh_page_begin(struct bh_writer *writer)
{
    bh_write_open(writer, NULL, '{');
    bh_write_open(writer, "items", '[');
}

void
bh_page_end(struct bh_request *request, struct bh_writer *writer, const char *last_key)
{
    uint8_t bytes[SHA256_DIGEST_LENGTH + TOKEN_BYTES];
    struct bh_buf text;
    char storage[2 * TOKEN_BYTES];
    size_t len;

    bh_write_close(writer, ']');
    if (last_key == NULL) {
        bh_write_text(writer, "next_page_token", NULL);
    } else {
        len = strlen(last_key);
        if (len > TOKEN_BYTES - DIGEST_BYTES)
            len = TOKEN_BYTES - DIGEST_BYTES;
        digest_filters(request, bytes);
        memcpy(bytes + DIGEST_BYTES, last_key, len);
        bh_buf_init(&text, storage, sizeof(storage));
        bh_buf_base64url(&text, bytes, DIGEST_BYTES + len);
        bh_write_text(writer, "next_page_token", text.data);
    }
    bh_write_close(writer, '}');
}
