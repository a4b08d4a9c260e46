#include "core/endpoint.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#define UNIX_PATH_MAX 103 /* bytes: the kernel's 107 without the mark of edge/endpoints.h */
#define TLS_NAME_MAX 253
#define LABEL_MAX 63

enum option { OPTION_WEIGHT, OPTION_GROUP, OPTION_TLS, OPTION_GRPC, OPTION_BACKUP, OPTION_COUNT };

static const struct {
    const char *name;
    bool has_value;
} options[OPTION_COUNT] = {
    [OPTION_WEIGHT] = {"weight", true},
    [OPTION_GROUP] = {"group", true},
    [OPTION_TLS] = {"tls", true},
    [OPTION_GRPC] = {"grpc", false},
    [OPTION_BACKUP] = {"backup", false},
};

static bool
is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
}

static bool
is_printable(struct bh_str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] <= ' ' || text.data[i] > '~') {
            return false;
        }
    }
    return true;
}

/* Is ${s} an address of that family as inet_pton(3) reads it? */
static bool
is_ip(int family, struct bh_str s)
{
    char text[INET6_ADDRSTRLEN];
    unsigned char address[sizeof(struct in6_addr)];
    if (s.len >= sizeof(text)) {
        return false;
    }
    memcpy(text, s.data, s.len);
    text[s.len] = '\0';
    return inet_pton(family, text, address) == 1;
}

/* Names are not resolved: an edge that waits for DNS would serve nobody meanwhile. */
static bool
address_valid(struct bh_str s)
{
    if (bh_str_starts(s, "unix:")) {
        return s.len > 5 && s.len <= 5 + UNIX_PATH_MAX && s.data[5] == '/';
    }
    size_t colon = s.len;
    while (colon > 0 && s.data[colon - 1] != ':') {
        colon--;
    }
    uint64_t port;
    if (colon < 2 || !bh_str_uint((struct bh_str){s.data + colon, s.len - colon}, 65535, &port) ||
        port == 0) {
        return false;
    }
    struct bh_str host = {s.data, colon - 1};
    if (host.data[0] == '[' && host.len > 2 && host.data[host.len - 1] == ']') {
        return is_ip(AF_INET6, (struct bh_str){host.data + 1, host.len - 2});
    }
    return is_ip(AF_INET, host);
}

static bool
group_valid(struct bh_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!is_word(s.data[i]) && s.data[i] != '.' && s.data[i] != '_') {
            return false;
        }
    }
    return s.len >= 1 && s.len <= BH_ENDPOINT_GROUP_MAX;
}

static bool
label_valid(struct bh_str s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!is_word(s.data[i])) {
            return false;
        }
    }
    return s.len >= 1 && s.len <= LABEL_MAX && s.data[0] != '-' && s.data[s.len - 1] != '-';
}

/* A host name in lower case; no address, for which certificates have other rules. */
static bool
tls_valid(struct bh_str s)
{
    struct bh_str label, rest = s;
    if (s.len > TLS_NAME_MAX) {
        return false;
    }
    while (bh_str_cut(rest, '.', &label, &rest)) {
        if (!label_valid(label)) {
            return false;
        }
    }
    return label_valid(rest) && !(rest.data[0] >= '0' && rest.data[0] <= '9');
}

static enum option
find_option(struct bh_str name, bool has_value)
{
    for (int i = 0; i < OPTION_COUNT; i++) {
        if (bh_str_is(name, options[i].name) && options[i].has_value == has_value) {
            return (enum option)i;
        }
    }
    return OPTION_COUNT;
}

static bool
take_weight(struct bh_str value, struct bh_endpoint *endpoint)
{
    uint64_t weight;
    if (!bh_str_uint(value, BH_ENDPOINT_WEIGHT_MAX, &weight) || weight == 0) {
        return false;
    }
    endpoint->weight = (uint32_t)weight;
    return true;
}

static bool
take_option(enum option option, struct bh_str value, struct bh_endpoint *endpoint)
{
    switch (option) {
    case OPTION_WEIGHT:
        return take_weight(value, endpoint);
    case OPTION_GROUP:
        endpoint->group = value;
        return group_valid(value);
    case OPTION_TLS:
        endpoint->tls = value;
        return tls_valid(value);
    case OPTION_GRPC:
        endpoint->grpc = true;
        return true;
    case OPTION_BACKUP:
        endpoint->backup = true;
        return true;
    case OPTION_COUNT:
        break;
    }
    return false;
}

static enum bh_code
read_option(struct bh_str text, unsigned *seen, struct bh_endpoint *endpoint, struct bh_error *err)
{
    struct bh_str name = text, value = {text.data + text.len, 0};
    bool has_value = bh_str_cut(text, '=', &name, &value);
    enum option option = find_option(name, has_value);
    if (option == OPTION_COUNT) {
        return bh_fail(err, BH_E_INVALID,
            "endpoint: no option \"%.*s\": weight=, group=, tls=, grpc, backup", (int)text.len,
            text.data);
    }
    if ((*seen & 1U << option) != 0) {
        return bh_fail(
            err, BH_E_INVALID, "endpoint: option %s is given twice", options[option].name);
    }
    *seen |= 1U << option;
    if (!take_option(option, value, endpoint)) {
        return bh_fail(err, BH_E_INVALID, "endpoint: option \"%.*s\" has no such value",
            (int)text.len, text.data);
    }
    return BH_OK;
}

enum bh_code
bh_endpoint_parse(struct bh_str text, struct bh_endpoint *ret_endpoint, struct bh_error *err)
{
    struct bh_endpoint endpoint = {.address = text, .weight = 1};
    struct bh_str rest = {text.data, 0};
    unsigned seen = 0;
    if (text.len > BH_ENDPOINT_TEXT_MAX || !is_printable(text)) {
        return bh_fail(err, BH_E_INVALID,
            "endpoint: at most %d printable characters without spaces", BH_ENDPOINT_TEXT_MAX);
    }
    bool more = bh_str_cut(text, ';', &endpoint.address, &rest);
    if (!address_valid(endpoint.address)) {
        return bh_fail(err, BH_E_INVALID,
            "endpoint: \"%.*s\" is not host:port (an IPv4 address, no name), [v6]:port or unix:/path",
            (int)endpoint.address.len, endpoint.address.data);
    }
    while (more) {
        struct bh_str one = rest;
        more = bh_str_cut(rest, ';', &one, &rest);
        BH_TRY(read_option(one, &seen, &endpoint, err));
    }
    *ret_endpoint = endpoint;
    return BH_OK;
}
