#include "control/certificate.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#include "core/codec.h"

#define CHAIN_MAX 10
#define SECURITY_BITS 112
#define TEXT_MAX 65536

struct chain {
    X509 *items[CHAIN_MAX];
    int count;
};

static enum bh_code
bad_chain(struct bh_error *err, const char *detail)
{
    return bh_fail_at(err, BH_E_INVALID, "/chain", "%s", detail);
}

static enum bh_code
bad_key(struct bh_error *err, const char *detail)
{
    return bh_fail_at(err, BH_E_INVALID, "/key", "%s", detail);
}

/* OpenSSL would ask a terminal. */
static int
no_passphrase(char *data, int size, int writing, void *arg)
{
    (void)data;
    (void)size;
    (void)writing;
    *(bool *)arg = true;
    return -1;
}

/* ---- the chain ---- */

static enum bh_code
read_chain(struct bh_str pem, struct chain *chain, struct bh_error *err)
{
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    bool asked = false;
    X509 *next;
    if (!bio)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for a certificate");
    while (chain->count < CHAIN_MAX &&
           (next = PEM_read_bio_X509(bio, NULL, no_passphrase, &asked)) != NULL)
        chain->items[chain->count++] = next;
    /* Text that has no further block is the end; a block that cannot be read is not. */
    unsigned long last = ERR_peek_last_error();
    bool ended = ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
    BIO_free(bio);
    if (chain->count == 0)
        return bad_chain(err, "must be certificates in PEM, the leaf first");
    if (chain->count == CHAIN_MAX)
        return bad_chain(err, "must hold less than 10 certificates");
    return ended ? BH_OK : bad_chain(err, "holds a block that is no certificate");
}

static bool
is_self_signed(X509 *certificate)
{
    return X509_check_issued(certificate, certificate) == X509_V_OK;
}

static bool
is_weak(X509 *certificate)
{
    int bits = 0;
    EVP_PKEY *key = X509_get0_pubkey(certificate);
    if (!key || EVP_PKEY_get_security_bits(key) < SECURITY_BITS)
        return true;
    /* Nobody believes a root because of its signature. */
    return !is_self_signed(certificate) &&
           (X509_get_signature_info(certificate, NULL, NULL, &bits, NULL) != 1 ||
               bits < SECURITY_BITS);
}

static enum bh_code
check_one(X509 *certificate, int64_t now_s, struct bh_error *err)
{
    time_t now = (time_t)now_s;
    int begun = X509_cmp_time(X509_get0_notBefore(certificate), &now);
    int ended = X509_cmp_time(X509_get0_notAfter(certificate), &now);
    if (begun == 0 || ended == 0) /* never means equal */
        return bad_chain(err, "holds a certificate whose dates cannot be read");
    if (begun > 0)
        return bad_chain(err, "holds a certificate that is not valid yet");
    if (ended < 0)
        return bad_chain(err, "holds a certificate that has expired");
    return is_weak(certificate) ? bad_chain(err, "holds a certificate with a weak key or signature")
                                : BH_OK;
}

static enum bh_code
check_order(const struct chain *chain, struct bh_error *err)
{
    for (int i = 0; i + 1 < chain->count; i++)
        if (X509_check_issued(chain->items[i + 1], chain->items[i]) != X509_V_OK ||
            X509_verify(chain->items[i], X509_get0_pubkey(chain->items[i + 1])) != 1)
            return bad_chain(err, "must be in order, each certificate signed by the next");
    return BH_OK;
}

/* A wildcard must cover whatever stands in its place. */
static bool
covers(X509 *leaf, struct bh_str domain)
{
    char host[256];
    if (domain.len == 0 || domain.len >= sizeof(host))
        return false;
    memcpy(host, domain.data, domain.len);
    host[0] = host[0] == '*' ? 'x' : host[0];
    return X509_check_host(leaf, host, domain.len,
               X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT,
               NULL) == 1;
}

static enum bh_code
check_chain(
    const struct chain *chain, const struct bh_certificate_check *check, struct bh_error *err)
{
    for (int i = 0; i < chain->count; i++)
        BH_TRY(check_one(chain->items[i], check->now_s, err));
    BH_TRY(check_order(chain, err));
    if (X509_check_purpose(chain->items[0], X509_PURPOSE_SSL_SERVER, 0) != 1)
        return bad_chain(err, "begins with a certificate that is not for TLS servers");
    return covers(chain->items[0], check->domain)
               ? BH_OK
               : bad_chain(err, "begins with a certificate that does not cover the domain");
}

/* ---- the key ---- */

static enum bh_code
put_der(EVP_PKEY *key, struct bh_buf *out, struct bh_error *err)
{
    unsigned char *der = NULL;
    PKCS8_PRIV_KEY_INFO *info = EVP_PKEY2PKCS8(key);
    int len = info ? i2d_PKCS8_PRIV_KEY_INFO(info, &der) : -1;
    PKCS8_PRIV_KEY_INFO_free(info); /* which wipes it */
    if (len > 0)
        bh_buf_add(out, der, (size_t)len);
    OPENSSL_clear_free(der, len > 0 ? (size_t)len : 0);
    return len > 0 && bh_buf_ok(out) ? BH_OK : bad_key(err, "must be a key of at most 16 KiB");
}

static enum bh_code
read_key(struct bh_str pem, X509 *leaf, struct bh_buf *out, struct bh_error *err)
{
    bool locked = false;
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &locked) : NULL;
    enum bh_code code = BH_OK;
    BIO_free(bio);
    if (locked)
        code = bad_key(err, "must not be encrypted");
    else if (!key)
        code = bad_key(err, "must be a private key in PEM");
    else if (X509_check_private_key(leaf, key) != 1)
        code = bad_key(err, "is not the key of the first certificate");
    if (code == BH_OK)
        code = put_der(key, out, err);
    EVP_PKEY_free(key);
    return code;
}

/* ---- what it says ---- */

static const char *
text_of(BIO *bio, struct bh_arena *arena)
{
    char *data;
    long len = bio ? BIO_get_mem_data(bio, &data) : -1;
    const char *text = len >= 0 ? bh_arena_strndup(arena, data, (size_t)len) : NULL;
    BIO_free(bio);
    return text;
}

static const char *
write_chain(const struct chain *chain, struct bh_arena *arena)
{
    BIO *bio = BIO_new(BIO_s_mem());
    for (int i = 0; bio && i < chain->count; i++)
        (void)PEM_write_bio_X509(bio, chain->items[i]);
    return text_of(bio, arena);
}

static const char *
write_issuer(X509 *leaf, struct bh_arena *arena)
{
    BIO *bio = BIO_new(BIO_s_mem());
    if (bio)
        (void)X509_NAME_print_ex(bio, X509_get_issuer_name(leaf), 0, XN_FLAG_RFC2253);
    return text_of(bio, arena);
}

static const char *
write_names(X509 *leaf, struct bh_arena *arena)
{
    struct bh_buf out;
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    bh_buf_init_arena(&out, arena, TEXT_MAX);
    bh_buf_putc(&out, '[');
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_DNS)
            continue;
        struct bh_str text = {(const char *)ASN1_STRING_get0_data(name->d.dNSName),
            (size_t)ASN1_STRING_length(name->d.dNSName)};
        bh_buf_puts(&out, out.len > 1 ? "," : "");
        bh_buf_json(&out, text);
    }
    bh_buf_putc(&out, ']');
    GENERAL_NAMES_free(names);
    return bh_buf_ok(&out) ? out.data : NULL;
}

static const char *
write_key_type(X509 *leaf, struct bh_arena *arena)
{
    char group[32] = "";
    EVP_PKEY *key = X509_get0_pubkey(leaf);
    if (EVP_PKEY_is_a(key, "RSA"))
        return bh_arena_printf(arena, "RSA %d", EVP_PKEY_get_bits(key));
    if (EVP_PKEY_is_a(key, "EC") && EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) == 1)
        return bh_arena_printf(arena, "EC %s", strcmp(group, "prime256v1") == 0 ? "P-256" : group);
    return bh_arena_strdup(arena, OBJ_nid2sn(EVP_PKEY_get_base_id(key)));
}

static const char *
write_fingerprint(X509 *leaf, struct bh_arena *arena)
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len;
    struct bh_buf out;
    if (X509_digest(leaf, EVP_sha256(), digest, &len) != 1)
        return NULL;
    bh_buf_init_arena(&out, arena, 128);
    bh_buf_hex(&out, digest, len);
    return bh_buf_ok(&out) ? out.data : NULL;
}

static int64_t
time_us(const ASN1_TIME *time)
{
    struct tm tm;
    return ASN1_TIME_to_tm(time, &tm) == 1 ? (int64_t)timegm(&tm) * 1000000 : 0;
}

static enum bh_code
tell(const struct chain *chain, struct bh_arena *arena, struct bh_certificate_facts *ret_facts,
    struct bh_error *err)
{
    X509 *leaf = chain->items[0];
    *ret_facts = (struct bh_certificate_facts){
        .chain = write_chain(chain, arena),
        .names = write_names(leaf, arena),
        .issuer = write_issuer(leaf, arena),
        .key_type = write_key_type(leaf, arena),
        .fingerprint = write_fingerprint(leaf, arena),
        .not_before_us = time_us(X509_get0_notBefore(leaf)),
        .not_after_us = time_us(X509_get0_notAfter(leaf)),
    };
    bool all = ret_facts->chain && ret_facts->names && ret_facts->issuer && ret_facts->key_type &&
               ret_facts->fingerprint;
    return all ? BH_OK : bh_fail(err, BH_E_NO_MEMORY, "no memory for a certificate");
}

enum bh_code
bh_certificate_check(const struct bh_certificate_check *check, struct bh_arena *arena,
    struct bh_certificate_facts *ret_facts, struct bh_buf *ret_key, struct bh_error *err)
{
    struct chain chain = {.count = 0};
    enum bh_code code = read_chain(check->pem->chain, &chain, err);
    if (code == BH_OK)
        code = check_chain(&chain, check, err);
    if (code == BH_OK)
        code = read_key(check->pem->key, chain.items[0], ret_key, err);
    if (code == BH_OK)
        code = tell(&chain, arena, ret_facts, err);
    for (int i = 0; i < chain.count; i++)
        X509_free(chain.items[i]);
    ERR_clear_error();
    return code;
}
