#include "core/host.h"

#include <arpa/inet.h>

static char
lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Does ${host} end in ${domain}, which is lower case? */
static bool
ends_in(struct bh_str host, struct bh_str domain)
{
    if (host.len < domain.len)
        return false;
    struct bh_str tail = {host.data + (host.len - domain.len), domain.len};
    return bh_str_eq_nocase(tail, domain);
}

static bool
is_address(int family, struct bh_str text)
{
    char copy[INET6_ADDRSTRLEN];
    unsigned char address[16];
    if (text.len == 0 || text.len >= sizeof(copy) || memchr(text.data, '\0', text.len) != NULL)
        return false;
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    return inet_pton(family, copy, address) == 1;
}

/* A bracketed IPv6 address, alone or before a colon and whatever follows the last one. */
static bool
is_bracketed(struct bh_str host)
{
    struct bh_str address, rest;
    if (!bh_str_starts(host, "[") || !bh_str_cut(host, ']', &address, &rest))
        return false;
    address.data++;
    address.len--;
    bool port =
        rest.len == 0 || (rest.data[0] == ':' && memchr(rest.data + 1, ':', rest.len - 1) == NULL);
    return port && is_address(AF_INET6, address);
}

/* A colon inside brackets is an address's own. */
static struct bh_str
strip_port_and_dot(struct bh_str host)
{
    const char *colon = host.len == 0 ? NULL : memrchr(host.data, ':', host.len);
    if (colon != NULL && memchr(colon, ']', host.len - (size_t)(colon - host.data)) == NULL)
        host.len = (size_t)(colon - host.data);
    if (host.len > 0 && host.data[host.len - 1] == '.')
        host.len--;
    return host;
}

enum bh_code
bh_host_tenant(struct bh_str host, struct bh_str base_domain, char ret_id[BH_TENANT_ID_MAX + 1],
    size_t *ret_len, struct bh_error *err)
{
    if (is_bracketed(host))
        return bh_fail(err, BH_E_TENANT_MISSING, "the host is an IP address");
    host = strip_port_and_dot(host);
    if (host.len == 0)
        return bh_fail(err, BH_E_TENANT_MISSING, "the request names no host");
    char last = host.data[host.len - 1]; /* a digit in every address */
    if (last >= '0' && last <= '9' && is_address(AF_INET, host))
        return bh_fail(err, BH_E_TENANT_MISSING, "the host is an IP address");
    if (!ends_in(host, base_domain))
        return bh_fail(err, BH_E_TENANT_UNKNOWN, "the host is not under the base domain");
    if (host.len == base_domain.len)
        return bh_fail(err, BH_E_TENANT_MISSING, "the host is the base domain and names no tenant");
    size_t len = host.len - base_domain.len - 1;
    if (host.data[len] != '.' || len == 0 || len > BH_TENANT_ID_MAX)
        return bh_fail(err, BH_E_TENANT_UNKNOWN, "the host names no tenant");
    char id[BH_TENANT_ID_MAX + 1];
    for (size_t i = 0; i < len; i++)
        id[i] = lower(host.data[i]);
    id[len] = '\0';
    if (bh_tenant_id_check((struct bh_str){id, len}, NULL) != BH_OK)
        return bh_fail(err, BH_E_TENANT_UNKNOWN, "the host names no tenant");
    memcpy(ret_id, id, len + 1);
    *ret_len = len;
    return BH_OK;
}

/* ---- custom domains ---- */

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool
is_letter(char c)
{
    return c >= 'a' && c <= 'z';
}

static bool
label_valid(struct bh_str label)
{
    if (label.len == 0 || label.len > 63 || label.data[0] == '-' ||
        label.data[label.len - 1] == '-')
        return false;
    for (size_t i = 0; i < label.len; i++)
        if (!is_letter(label.data[i]) && !is_digit(label.data[i]) && label.data[i] != '-')
            return false;
    /* RFC 5890: such labels are IDNs in punycode, or reserved. */
    return label.len < 4 || memcmp(label.data + 2, "--", 2) != 0 || bh_str_starts(label, "xn");
}

enum bh_code
bh_domain_check(struct bh_str domain, struct bh_error *err)
{
    struct bh_str label, rest = domain;
    unsigned labels = 1;
    bool valid = domain.len <= BH_DOMAIN_MAX;
    while (valid && bh_str_cut(rest, '.', &label, &rest)) {
        valid = label_valid(label);
        labels++;
    }
    if (!valid || labels < 2 || !label_valid(rest) || !is_letter(rest.data[0]))
        return bh_fail(err, BH_E_INVALID,
            "must be a domain name in lower case, of two labels or more, an IDN in its xn-- form");
    return BH_OK;
}

bool
bh_host_under(struct bh_str host, struct bh_str base_domain)
{
    return ends_in(host, base_domain) &&
           (host.len == base_domain.len || host.data[host.len - base_domain.len - 1] == '.');
}

bool
bh_host_domain(struct bh_str host, struct bh_str base_domain, char ret_domain[BH_DOMAIN_MAX + 1],
    size_t *ret_len)
{
    char domain[BH_DOMAIN_MAX + 1];
    host = strip_port_and_dot(host);
    if (host.len == 0 || host.len > BH_DOMAIN_MAX)
        return false;
    for (size_t i = 0; i < host.len; i++)
        domain[i] = lower(host.data[i]);
    domain[host.len] = '\0';
    struct bh_str text = {domain, host.len};
    if (bh_domain_check(text, NULL) != BH_OK || bh_host_under(text, base_domain))
        return false;
    memcpy(ret_domain, domain, host.len + 1);
    *ret_len = host.len;
    return true;
}

bool
bh_host_same(struct bh_str a, struct bh_str b)
{
    return bh_str_eq_nocase(strip_port_and_dot(a), strip_port_and_dot(b));
}
