#include "engine/jwks/fetch.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/jwk.h"

#define TIMEOUT_MS 10000L
#define CONNECT_MS 5000L
#define DISCOVERY "/.well-known/openid-configuration"

/* ---- addresses ---- */

struct network {
    uint32_t address;
    unsigned bits;
};

/* Networks that are not the internet (RFC 6890). */
static const struct network closed[] = {
    {0x00000000, 8},  /* this host */
    {0x0a000000, 8},  /* private */
    {0x64400000, 10}, /* shared by carriers */
    {0x7f000000, 8},  /* loopback */
    {0xa9fe0000, 16}, /* link-local: metadata of clouds */
    {0xac100000, 12}, /* private */
    {0xc0000000, 24}, /* protocol assignments */
    {0xc0000200, 24}, /* documentation */
    {0xc0a80000, 16}, /* private */
    {0xc6120000, 15}, /* benchmarks */
    {0xc6336400, 24}, /* documentation */
    {0xcb007100, 24}, /* documentation */
    {0xe0000000, 3},  /* multicast, reserved, broadcast */
};

static bool
is_open_v4(uint32_t address)
{
    for (size_t i = 0; i < sizeof(closed) / sizeof(closed[0]); i++) {
        uint32_t mask = UINT32_MAX << (32 - closed[i].bits);
        if ((address & mask) == closed[i].address)
            return false;
    }
    return true;
}

static uint32_t
be32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* Global unicast is 2000::/3; what carries an IPv4 address in it is as good as that address. */
static bool
is_open_v6(const uint8_t *a)
{
    static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b};
    if (memcmp(a, nat64, sizeof(nat64)) == 0)
        return is_open_v4(be32(a + 12));
    if (a[0] == 0x20 && a[1] == 0x02) /* 6to4 */
        return is_open_v4(be32(a + 2));
    bool special = a[0] == 0x20 && a[1] == 0x01 && a[2] < 2; /* Teredo and the like */
    bool documentation = a[0] == 0x20 && a[1] == 0x01 && a[2] == 0x0d && a[3] == 0xb8;
    return (a[0] & 0xe0) == 0x20 && !special && !documentation;
}

enum reach { PUBLIC, LOOPBACK, PRIVATE };

static enum reach
reach_of(const struct sockaddr *address)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (address->sa_family == AF_INET) {
        uint32_t v4 = ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr);
        return v4 >> 24 == 127 ? LOOPBACK : is_open_v4(v4) ? PUBLIC : PRIVATE;
    }
    if (address->sa_family != AF_INET6)
        return PRIVATE;
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
    if (IN6_IS_ADDR_LOOPBACK(v6))
        return LOOPBACK;
    if (memcmp(v6->s6_addr, mapped, sizeof(mapped)) == 0) {
        uint32_t v4 = be32(v6->s6_addr + 12);
        return v4 >> 24 == 127 ? LOOPBACK : is_open_v4(v4) ? PUBLIC : PRIVATE;
    }
    return is_open_v6(v6->s6_addr) ? PUBLIC : PRIVATE;
}

/* ---- URLs ---- */

static bool
starts_nocase(struct bh_str url, const char *scheme, struct bh_str *ret_rest)
{
    size_t len = strlen(scheme);
    if (url.len < len || !bh_str_eq_nocase((struct bh_str){url.data, len}, bh_str_of(scheme)))
        return false;
    *ret_rest = (struct bh_str){url.data + len, url.len - len};
    return true;
}

/* The host of what follows the scheme, without port; empty where it is odd. */
static struct bh_str
host_of(struct bh_str rest)
{
    const char *close =
        rest.len > 0 && rest.data[0] == '[' ? memchr(rest.data, ']', rest.len) : NULL;
    size_t end = close == NULL ? 0 : (size_t)(close - rest.data) + 1;
    while (close == NULL && end < rest.len && strchr(":/?#", rest.data[end]) == NULL)
        end++;
    /* No name and password in a URL: who reads it is easily mistaken about the host. */
    bool odd = (end < rest.len && strchr(":/?#", rest.data[end]) == NULL) ||
               memchr(rest.data, '@', rest.len) != NULL ||
               memchr(rest.data, '\\', rest.len) != NULL;
    return odd ? BH_STR("") : (struct bh_str){rest.data, end};
}

static bool
is_loopback_name(struct bh_str host)
{
    return bh_str_is(host, "localhost") || bh_str_is(host, "[::1]") || bh_str_is(host, "127.0.0.1");
}

enum bh_code
bh_jwks_url_check(struct bh_str url, struct bh_error *err)
{
    struct bh_str rest;
    bool ok = url.len > 0 && url.len <= 500;
    for (size_t i = 0; ok && i < url.len; i++)
        ok = url.data[i] > ' ' && url.data[i] <= '~' && url.data[i] != '"' && url.data[i] != '\\';
    if (ok && starts_nocase(url, "https://", &rest) && host_of(rest).len > 0)
        return BH_OK;
    if (ok && starts_nocase(url, "http://", &rest) && is_loopback_name(host_of(rest)))
        return BH_OK;
    return bh_fail(
        err, BH_E_INVALID, "must be an https URL (http only for 127.0.0.1, [::1] and localhost)");
}

static bool
names_loopback(const char *url)
{
    struct bh_str rest;
    struct bh_str text = bh_str_of(url);
    return (starts_nocase(text, "https://", &rest) || starts_nocase(text, "http://", &rest)) &&
           is_loopback_name(host_of(rest));
}

/* ---- one answer ---- */

struct transfer {
    const struct bh_jwks_source *source;
    bool loopback; /* the URL names this machine */
    bool refused;  /* an address that may not be asked */
    bool too_large;
    struct bh_buf body;
    int64_t max_age_s; /* −1: not said */
};

static size_t
take_body(char *data, size_t size, size_t count, void *arg)
{
    struct transfer *transfer = arg;
    bh_buf_add(&transfer->body, data, size * count);
    transfer->too_large = !bh_buf_ok(&transfer->body);
    return transfer->too_large ? 0 : size * count;
}

static void
read_max_age(struct transfer *transfer, struct bh_str value)
{
    struct bh_str word;
    bool more = true;
    while (more) {
        more = bh_str_cut(value, ',', &word, &value);
        if (!more)
            word = value;
        while (word.len > 0 && (word.data[0] == ' ' || word.data[0] == '\t'))
            word = (struct bh_str){word.data + 1, word.len - 1};
        while (word.len > 0 && strchr(" \t\r\n", word.data[word.len - 1]) != NULL)
            word.len--;
        struct bh_str number;
        uint64_t seconds;
        if (starts_nocase(word, "max-age=", &number) && bh_str_uint(number, INT32_MAX, &seconds))
            transfer->max_age_s = (int64_t)seconds;
        else if (bh_str_eq_nocase(word, BH_STR("no-store")) ||
                 bh_str_eq_nocase(word, BH_STR("no-cache")))
            transfer->max_age_s = 0;
    }
}

static size_t
take_header(char *data, size_t size, size_t count, void *arg)
{
    struct bh_str value;
    if (starts_nocase((struct bh_str){data, size * count}, "cache-control:", &value))
        read_max_age(arg, value);
    return size * count;
}

/* Asked with the address that the name resolved to, so no name can lead elsewhere later. */
static curl_socket_t
open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct transfer *transfer = arg;
    enum reach reach = reach_of(&address->addr);
    bool allowed = purpose == CURLSOCKTYPE_IPCXN &&
                   (transfer->loopback ? reach == LOOPBACK
                                       : reach == PUBLIC || (reach == PRIVATE &&
                                                                transfer->source->private_allowed));
    if (!allowed) {
        transfer->refused = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* Called at least once a second. */
static int
go_on(void *arg, curl_off_t to_get, curl_off_t got, curl_off_t to_send, curl_off_t sent)
{
    const struct transfer *transfer = arg;
    const _Atomic bool *stopping = transfer->source->stopping;
    (void)to_get;
    (void)got;
    (void)to_send;
    (void)sent;
    return stopping != NULL && atomic_load(stopping);
}

static void
set_options(CURL *curl, const char *url, struct transfer *transfer)
{
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, transfer->loopback ? "http,https" : "https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, TIMEOUT_MS);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "bulkhead");
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 2L);
    if (transfer->source->ca_file != NULL)
        curl_easy_setopt(curl, CURLOPT_CAINFO, transfer->source->ca_file);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, go_on);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, transfer);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, transfer);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, transfer);
}

static void
init_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static enum bh_code
judge(CURLcode result, long status, const char *url, const struct transfer *transfer,
    struct bh_error *err)
{
    if (transfer->too_large)
        return bh_fail(err, BH_E_INVALID, "%s answers more than %d bytes", url, BH_JWKS_BYTES);
    if (result != CURLE_OK && transfer->refused)
        return bh_fail(err, BH_E_INVALID,
            "%s leads into a network that is not public, which is not allowed", url);
    if (result != CURLE_OK)
        return bh_fail(err, BH_E_UNAVAILABLE, "%s: %s", url, curl_easy_strerror(result));
    if (status >= 300 && status < 400)
        return bh_fail(err, BH_E_INVALID, "%s redirects (%ld), which is not followed", url, status);
    if (status != 200)
        return bh_fail(
            err, status >= 500 ? BH_E_UNAVAILABLE : BH_E_INVALID, "%s answers %ld", url, status);
    return BH_OK;
}

static enum bh_code
get(const char *url, struct transfer *transfer, struct bh_arena *arena, struct bh_json **ret_json,
    struct bh_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    long status = 0;
    pthread_once(&once, init_curl);
    CURL *curl = curl_easy_init();
    if (curl == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory to ask %s", url);
    bh_buf_init_arena(&transfer->body, arena, BH_JWKS_BYTES + 1);
    transfer->max_age_s = -1;
    transfer->loopback = names_loopback(url);
    set_options(curl, url, transfer);
    CURLcode result = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(curl);
    BH_TRY(judge(result, status, url, transfer, err));
    enum bh_code code =
        bh_json_parse(bh_buf_str(&transfer->body), BH_JSON_DEPTH, arena, ret_json, err);
    return code == BH_E_BAD_REQUEST
               ? bh_fail(err, BH_E_INVALID, "%s answers what is no strict JSON", url)
               : code;
}

/* ---- keys ---- */

/* Is the key said to be for signatures, as far as it says anything? */
static bool
verifies(const struct bh_json *key)
{
    const struct bh_json *ops = bh_json_get(key, "key_ops");
    const struct bh_json *op = ops == NULL ? NULL : ops->first;
    while (op != NULL && !(op->kind == BH_JSON_STRING && bh_str_is(op->text, "verify")))
        op = op->next;
    return ops == NULL || op != NULL;
}

enum bh_code
bh_jwks_trim(const struct bh_json *set, struct bh_arena *arena, struct bh_str *ret_keys,
    struct bh_error *err)
{
    static const char *const members[] = {"kty", "kid", "use", "alg", "crv", "x", "y", "n", "e"};
    struct bh_jwks *jwks;
    struct bh_buf out;
    BH_TRY(bh_jwks_read(set, &jwks, err));
    bh_jwks_free(jwks);
    bh_buf_init_arena(&out, arena, BH_JWKS_BYTES);
    bh_buf_puts(&out, "{\"keys\":[");
    for (const struct bh_json *key = bh_json_get(set, "keys")->first; key != NULL;
         key = key->next) {
        const char *before = "{";
        if (!verifies(key))
            continue;
        bh_buf_puts(&out, out.data[out.len - 1] == '[' ? "" : ",");
        for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
            struct bh_str value;
            if (!bh_json_string(key, members[i], &value))
                continue;
            bh_buf_printf(&out, "%s\"%s\":", before, members[i]);
            bh_buf_json(&out, value);
            before = ",";
        }
        bh_buf_puts(&out, before[0] == '{' ? "{}" : "}");
    }
    bh_buf_puts(&out, "]}");
    if (!bh_buf_ok(&out))
        return bh_fail(err, BH_E_INVALID, "the key set is too large");
    *ret_keys = bh_buf_str(&out);
    return BH_OK;
}

static enum bh_code
discover(
    struct transfer *transfer, struct bh_arena *arena, const char **ret_url, struct bh_error *err)
{
    const char *issuer = transfer->source->issuer;
    size_t len = strlen(issuer);
    struct bh_json *document;
    struct bh_str said, url;
    while (len > 0 && issuer[len - 1] == '/')
        len--;
    const char *place = bh_arena_printf(arena, "%.*s" DISCOVERY, (int)len, issuer);
    if (place == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory to ask %s", issuer);
    BH_TRY(bh_jwks_url_check(bh_str_of(place), err));
    BH_TRY(get(place, transfer, arena, &document, err));
    if (!bh_json_string(document, "issuer", &said) || !bh_str_is(said, issuer))
        return bh_fail(err, BH_E_INVALID, "%s is of another issuer", place);
    if (!bh_json_string(document, "jwks_uri", &url) || bh_jwks_url_check(url, NULL) != BH_OK)
        return bh_fail(err, BH_E_INVALID, "%s names no jwks_uri that may be asked", place);
    *ret_url = bh_arena_strndup(arena, url.data, url.len);
    /* A public issuer has no business on this machine. */
    if (*ret_url != NULL && names_loopback(*ret_url) && !names_loopback(place))
        return bh_fail(err, BH_E_INVALID, "%s names a jwks_uri on this machine", place);
    return *ret_url == NULL ? bh_fail(err, BH_E_NO_MEMORY, "no memory to ask %s", issuer) : BH_OK;
}

enum bh_code
bh_jwks_fetch(const struct bh_jwks_source *source, struct bh_arena *arena,
    struct bh_jwks_answer *ret_answer, struct bh_error *err)
{
    struct transfer transfer = {.source = source};
    const char *url = source->jwks_url;
    struct bh_json *set;
    struct bh_error why;
    if (url == NULL)
        BH_TRY(discover(&transfer, arena, &url, err));
    BH_TRY(bh_jwks_url_check(bh_str_of(url), err));
    BH_TRY(get(url, &transfer, arena, &set, err));
    if (bh_jwks_trim(set, arena, &ret_answer->keys, &why) != BH_OK)
        return bh_fail(err, BH_E_INVALID, "%s: %s", url, why.detail);
    int64_t fresh_s = transfer.max_age_s < 0 ? BH_JWKS_FRESH_S : transfer.max_age_s;
    if (fresh_s < BH_JWKS_FRESH_MIN_S)
        fresh_s = BH_JWKS_FRESH_MIN_S;
    ret_answer->fresh_s = fresh_s < BH_JWKS_FRESH_MAX_S ? fresh_s : BH_JWKS_FRESH_MAX_S;
    return BH_OK;
}
