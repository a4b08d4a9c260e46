/* A Set-Cookie header that stays with its tenant (RFC 6265 section 5). */
#ifndef BH_CORE_COOKIE_H
#define BH_CORE_COOKIE_H

#include "core/buf.h"
#include "core/str.h"

/**
 * bh_cookie_confine(cookie, host, prefix, out):
 * Append the Set-Cookie value ${cookie} to ${out}, so that a browser sends it
 * to ${host} (lower case, no port) only and, where ${prefix} ("/t/acme") is not
 * empty, below that path only: every Domain other than ${host} goes, a Path
 * gets the prefix in front, and a cookie without usable Path gets
 * `Path=${prefix}/`.  A Path that leaves the prefix by `..` is replaced by it.
 * Returns whether what was appended differs from ${cookie}; at most
 * ${cookie.len} + ${prefix.len} × (1 + number of Paths) + 8 bytes are appended.
 */
bool bh_cookie_confine(
    struct bh_str cookie, struct bh_str host, struct bh_str prefix, struct bh_buf *out);

#endif
