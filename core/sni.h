/* The name that a TLS client asks for (RFC 6066 section 3), as we compare names. */
#ifndef BH_CORE_SNI_H
#define BH_CORE_SNI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/host.h"
#include "core/str.h"

struct bh_sni {
    char text[BH_DOMAIN_MAX + 1]; /* lower case, without one trailing dot; NUL-terminated */
    size_t len;                   /* 0: none was asked for */
};

/**
 * bh_sni_name(name, ret_sni):
 * Take the name ${name}.  False, and none in ${ret_sni}, where it can be no name of ours: empty,
 * longer than BH_DOMAIN_MAX, or with another byte than letters, digits, `-` and `.`.
 */
bool bh_sni_name(struct bh_str name, struct bh_sni *ret_sni);

/**
 * bh_sni_extension(data, len, ret_sni):
 * Take the name from the body of the extension server_name: a list of exactly one name, of the
 * type host_name, and nothing behind it.  False, and none in ${ret_sni}, for anything else.
 */
bool bh_sni_extension(const uint8_t *data, size_t len, struct bh_sni *ret_sni);

#endif
