/*
 * Who asks: `Authorization: Bearer <token>`, looked up by its SHA-256, so that
 * no comparison runs over the secret itself.
 *
 * Found principals are remembered for two seconds: agents post often.
 */
#include <openssl/sha.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "control/api/api.h"
#include "core/codec.h"

#define REMEMBER_S 2
#define REMEMBER_COUNT 64
#define NAME_MAX_BYTES 128
#define TOKEN_MAX_BYTES 4096

struct known {
    uint8_t hash[SHA256_DIGEST_LENGTH];
    time_t until; /* monotonic */
    char id[NAME_MAX_BYTES];
    char cell[NAME_MAX_BYTES]; /* empty: none */
    bool agent;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct known table[REMEMBER_COUNT];

static time_t
now(void)
{
    struct timespec time;

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec;
}

static struct known *
place(const uint8_t hash[SHA256_DIGEST_LENGTH])
{
    return &table[hash[0] % REMEMBER_COUNT];
}

static bool
recall(struct bh_request *request, const uint8_t hash[SHA256_DIGEST_LENGTH])
{
    struct known *known = place(hash);
    bool found;

    (void)pthread_mutex_lock(&lock);
    found = known->until > now() && bh_equal_ct(known->hash, hash, sizeof(known->hash));
    if (found) {
        request->principal.id = bh_arena_strdup(request->arena, known->id);
        request->principal.kind = known->agent ? "agent" : "operator";
        request->principal.cell =
            known->cell[0] == '\0' ? NULL : bh_arena_strdup(request->arena, known->cell);
        found = request->principal.id != NULL;
    }
    (void)pthread_mutex_unlock(&lock);
    return found;
}

static void
remember(const struct bh_principal *principal, const uint8_t hash[SHA256_DIGEST_LENGTH])
{
    struct known *known = place(hash);
    const char *cell = principal->cell == NULL ? "" : principal->cell;

    if (strlen(principal->id) >= sizeof(known->id) || strlen(cell) >= sizeof(known->cell))
        return;
    (void)pthread_mutex_lock(&lock);
    memcpy(known->hash, hash, sizeof(known->hash));
    memcpy(known->id, principal->id, strlen(principal->id) + 1);
    memcpy(known->cell, cell, strlen(cell) + 1);
    known->agent = strcmp(principal->kind, "agent") == 0;
    known->until = now() + REMEMBER_S;
    (void)pthread_mutex_unlock(&lock);
}

/* The token in an Authorization header: the scheme in any case, one space or more, then no space.
 */
static bool
bearer(const char *header, struct bh_str *ret_token)
{
    static const char scheme[] = "Bearer ";
    const char *token;

    if (header == NULL || strncasecmp(header, scheme, sizeof(scheme) - 1) != 0)
        return false;
    token = header + sizeof(scheme) - 1;
    token += strspn(token, " ");
    *ret_token = bh_str_of(token);
    return ret_token->len > 0 && ret_token->len <= TOKEN_MAX_BYTES &&
           strpbrk(token, " \t,") == NULL;
}

enum bh_code
bh_auth_check(struct bh_request *request, struct bh_error *err)
{
    uint8_t hash[SHA256_DIGEST_LENGTH];
    struct bh_str token;

    if (request->authorization == NULL)
        (void)bh_fail(err, BH_E_UNAUTHENTICATED, "no credential in the request");
    else if (request->authorization_twice)
        (void)bh_fail(err, BH_E_UNAUTHENTICATED, "two Authorization headers");
    else if (!bearer(request->authorization, &token))
        (void)bh_fail(err, BH_E_UNAUTHENTICATED, "the Authorization header is no bearer token");
    else {
        (void)SHA256((const unsigned char *)token.data, token.len, hash);
        if (recall(request, hash))
            return BH_OK;
        BH_TRY(bh_request_db(request, err));
        BH_TRY(bh_principal_find(request->db, request->arena, hash, &request->principal, err));
        remember(&request->principal, hash);
        return BH_OK;
    }
    return bh_hint(err, "send `Authorization: Bearer` with the token in $STATE/operator.token");
}
