/* Certificates that people hand in: what must be right before an edge shows them. */
#ifndef BH_CONTROL_CERTIFICATE_H
#define BH_CONTROL_CERTIFICATE_H

#include <stdint.h>

#include "core/arena.h"
#include "core/buf.h"
#include "core/error.h"
#include "core/str.h"

/* What was handed in; the texts are PEM. */
struct bh_certificate_pem {
    struct bh_str chain; /* leaf first, each signed by the next; the root may be missing */
    struct bh_str key;   /* not encrypted */
};

/* What it says; texts live in the arena. */
struct bh_certificate_facts {
    const char *chain;       /* written anew: the certificates and nothing else */
    const char *names;       /* JSON array of the DNS names that it covers */
    const char *issuer;      /* RFC 4514 */
    const char *key_type;    /* "EC P-256", "RSA 2048", "Ed25519" */
    const char *fingerprint; /* SHA-256 of the leaf, lower-case hex */
    int64_t not_before_us;
    int64_t not_after_us;
};

/**
 * bh_certificate_check(pem, domain, now_s, arena, ret_facts, ret_key, err):
 * Is it a chain of at most ten certificates in order, all valid at ${now_s}, signed with
 * algorithms of 112 bits at least, its leaf for TLS servers and covering ${domain} (a name, or
 * `*.` and a name) by subjectAltName, and the key the leaf's?  Appends the key as PKCS#8 DER to
 * ${ret_key}, which the caller wipes.  BH_E_INVALID at /chain or /key; the detail never has any of
 * the key.
 */
struct bh_certificate_check {
    const struct bh_certificate_pem *pem;
    struct bh_str domain;
    int64_t now_s;
};
enum bh_code bh_certificate_check(const struct bh_certificate_check *check, struct bh_arena *arena,
    struct bh_certificate_facts *ret_facts, struct bh_buf *ret_key,
    struct bh_error *err) BH_MUSTCHECK;

#endif
