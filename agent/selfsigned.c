#include "agent/selfsigned.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/file.h"
#include "core/buf.h"

#define OURS "Bulkhead self-signed"
#define CERTIFICATE "keys/edge-tls.crt"
#define KEY "keys/edge-tls.key"
#define DAY_S 86400L
#define DAYS 825 /* the most that clients accept */
#define DAYS_LEFT 30
#define PEM_MAX 65536

/* ---- what is there ---- */

static bool
is_ours(X509 *certificate)
{
    char name[64] = "";
    (void)X509_NAME_get_text_by_NID(
        X509_get_subject_name(certificate), NID_organizationName, name, sizeof(name));
    return strcmp(name, OURS) == 0;
}

static bool
is_stale(X509 *certificate, const char *domain)
{
    time_t soon = time(NULL) + DAYS_LEFT * DAY_S;
    return X509_cmp_time(X509_get0_notAfter(certificate), &soon) < 0 ||
           X509_check_host(certificate, domain, 0, 0, NULL) != 1;
}

/* Only our own is ever replaced; what cannot be read is nginx's to refuse. */
static bool
must_make(const char *path, const char *domain)
{
    struct bh_chunks chunks;
    struct bh_str text;
    X509 *certificate = NULL;
    bh_chunks_init(&chunks);
    enum bh_code code = bh_file_read(path, PEM_MAX, &chunks.arena, &text, NULL);
    BIO *bio = code == BH_OK ? BIO_new_mem_buf(text.data, (int)text.len) : NULL;
    if (bio)
        certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    bool make = code == BH_E_NOT_FOUND ||
                (certificate && is_ours(certificate) && is_stale(certificate, domain));
    X509_free(certificate);
    BIO_free(bio);
    bh_chunks_fini(&chunks);
    ERR_clear_error();
    return make;
}

/* ---- a new one ---- */

static bool
add_extension(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
    bool added = extension && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return added;
}

static bool
fill(X509 *certificate, EVP_PKEY *key, const char *domain)
{
    char names[640];
    unsigned char serial[8];
    X509_NAME *name = X509_get_subject_name(certificate);
    snprintf(names, sizeof(names), "DNS:%s,DNS:*.%s", domain, domain);
    if (RAND_bytes(serial, sizeof(serial)) != 1)
        return false;
    serial[0] &= 0x7f;
    BIGNUM *number = BN_bin2bn(serial, sizeof(serial), NULL);
    bool numbered =
        number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return numbered && X509_set_version(certificate, X509_VERSION_3) == 1 &&
           X509_gmtime_adj(X509_getm_notBefore(certificate), -DAY_S) &&
           X509_gmtime_adj(X509_getm_notAfter(certificate), DAYS * DAY_S - DAY_S) &&
           X509_NAME_add_entry_by_NID(name, NID_organizationName, MBSTRING_UTF8,
               (const unsigned char *)OURS, -1, -1, 0) == 1 &&
           X509_set_issuer_name(certificate, name) == 1 && X509_set_pubkey(certificate, key) == 1 &&
           add_extension(certificate, NID_subject_alt_name, names) &&
           add_extension(certificate, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(certificate, NID_ext_key_usage, "serverAuth") &&
           X509_sign(certificate, key, EVP_sha256()) > 0;
}

static enum bh_code
put(const struct bh_site *site, const char *name, BIO *pem, mode_t mode, struct bh_error *err)
{
    char path[PATH_MAX], *data;
    long len = BIO_get_mem_data(pem, &data);
    bh_site_path(site, name, path);
    return bh_file_put(path, (struct bh_str){data, (size_t)len}, mode, NULL, err);
}

static enum bh_code
make(const struct bh_site *site, struct bh_error *err)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    BIO *public = BIO_new(BIO_s_mem());
    BIO *private = BIO_new(BIO_s_secmem());
    enum bh_code code = BH_OK;
    if (!key || !certificate || !public || !private || !fill(certificate, key, site->base_domain) ||
        PEM_write_bio_X509(public, certificate) != 1 ||
        PEM_write_bio_PKCS8PrivateKey(private, key, NULL, NULL, 0, NULL, NULL) != 1)
        code = bh_fail(err, BH_E_INTERNAL, "libcrypto failed to make a certificate");
    /* The key first: nginx is told of neither before both are there. */
    if (code == BH_OK)
        code = put(site, KEY, private, 0400, err);
    if (code == BH_OK)
        code = put(site, CERTIFICATE, public, 0444, err);
    BIO_free(private);
    BIO_free(public);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return code;
}

enum bh_code
bh_selfsigned_ensure(const struct bh_site *site, struct bh_error *err)
{
    char certificate[PATH_MAX], key[PATH_MAX];
    bh_site_path(site, CERTIFICATE, certificate);
    bh_site_path(site, KEY, key);
    bool has_certificate = access(certificate, F_OK) == 0;
    bool has_key = access(key, F_OK) == 0;
    if (has_certificate != has_key) {
        bh_fail(err, BH_E_CONFIG, "%s is there without %s", has_key ? key : certificate,
            has_key ? certificate : key);
        bh_hint(err, "put both there, or remove it: then a self-signed pair is made");
        return BH_E_CONFIG;
    }
    return must_make(certificate, site->base_domain) ? make(site, err) : BH_OK;
}
