/*
 * Certificates of custom domains: documents `certificate/<domain>` of the snapshot, parsed when a
 * handshake first names them and kept by this worker while their version stands.
 *
 * A document that cannot be used harms the handshakes of its domain only, and is logged once for
 * each version.  Private keys are opened here and nowhere else, and wiped with what held them.
 */
#include "edge/edge.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "core/buf.h"
#include "core/codec.h"
#include "core/json.h"
#include "core/seal.h"

#define PLACES 4096 /* a power of two */
#define CHAIN_MAX 10

static struct bh_edge_certificate *places[PLACES]; /* by a hash of the document's name */

static void
free_certificate(struct bh_edge_certificate *certificate)
{
    if (certificate != NULL) {
        X509_free(certificate->leaf);
        EVP_PKEY_free(certificate->key);
        sk_X509_pop_free(certificate->chain, X509_free);
        ngx_free(certificate);
    }
}

/* ---- one document ---- */

/* OpenSSL would ask a terminal for the passphrase of an encrypted block. */
static int
no_passphrase(char *data, int size, int writing, void *arg)
{
    (void)data;
    (void)size;
    (void)writing;
    (void)arg;
    return -1;
}

static const char *
read_chain(struct bh_edge_certificate *certificate, struct bh_str pem)
{
    const char *problem = NULL;
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    certificate->chain = sk_X509_new_null();
    if (bio == NULL || certificate->chain == NULL) {
        problem = "no memory";
    } else if ((certificate->leaf = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) == NULL) {
        problem = "its chain has no certificate";
    }
    X509 *next = NULL;
    while (problem == NULL && (next = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL)) != NULL) {
        if (sk_X509_num(certificate->chain) >= CHAIN_MAX ||
            sk_X509_push(certificate->chain, next) <= 0) {
            X509_free(next);
            problem = "its chain is too long";
        }
    }
    BIO_free(bio);
    return problem;
}

static const char *
open_key(struct bh_edge_certificate *certificate, struct bh_str sealed)
{
    char der[BH_SEAL_PLAIN_MAX + 1];
    struct bh_buf plain;
    bh_buf_init(&plain, der, sizeof(der));
    if (!bh_edge.keyring->has_seal) {
        return "the keyring has no seal key";
    }
    struct bh_str name = {certificate->name, certificate->name_len};
    if (bh_unseal(&bh_edge.keyring->seal, name, sealed, &plain, NULL) != BH_OK) {
        return "its key is not sealed for this name and cell";
    }
    const unsigned char *p = (const unsigned char *)der;
    PKCS8_PRIV_KEY_INFO *info = d2i_PKCS8_PRIV_KEY_INFO(NULL, &p, (long)plain.len);
    certificate->key = info == NULL ? NULL : EVP_PKCS82PKEY(info);
    PKCS8_PRIV_KEY_INFO_free(info);
    bh_wipe(der, sizeof(der));
    return certificate->key == NULL ? "its key is no PKCS#8 key" : NULL;
}

/* A wildcard must cover whatever stands in its place. */
static bool
covers(const struct bh_edge_certificate *certificate)
{
    char host[BH_DOCUMENT_NAME_MAX + 1];
    const char *name = certificate->name + sizeof(BH_EDGE_CERTIFICATE) - 1;
    size_t len = certificate->name_len - (sizeof(BH_EDGE_CERTIFICATE) - 1);
    ngx_memcpy(host, name, len);
    host[0] = host[0] == '*' ? 'x' : host[0];
    return X509_check_host(certificate->leaf, host, len,
               X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT,
               NULL) == 1;
}

static const char *
read_body(struct bh_edge_certificate *certificate, struct bh_str body, struct bh_arena *arena)
{
    struct bh_json *root;
    struct bh_str chain, sealed;
    if (bh_json_parse(body, BH_JSON_DEPTH, arena, &root, NULL) != BH_OK ||
        !bh_json_string(root, "chain", &chain) || !bh_json_string(root, "sealed_key", &sealed)) {
        return "it is no document of a certificate";
    }
    const char *problem = read_chain(certificate, chain);
    if (problem == NULL) {
        problem = open_key(certificate, sealed);
    }
    if (problem == NULL && X509_check_private_key(certificate->leaf, certificate->key) != 1) {
        problem = "its key is not the certificate's";
    }
    return problem == NULL && !covers(certificate) ? "it does not cover its name" : problem;
}

/* An expired one is served: the client judges it, and our clock may be the wrong one. */
static void
tell(const struct bh_edge_certificate *certificate, const char *problem, ngx_log_t *log)
{
    if (problem != NULL) {
        ngx_log_error(NGX_LOG_ERR, log, 0, "bulkhead: %s: %s: no handshake for its domain",
            certificate->name, problem);
    } else if (X509_cmp_current_time(X509_get0_notAfter(certificate->leaf)) < 0) {
        ngx_log_error(
            NGX_LOG_WARN, log, 0, "bulkhead: %s has expired, and is served", certificate->name);
    }
}

static struct bh_edge_certificate *
read_certificate(struct bh_str name, const struct bh_document *document, ngx_log_t *log)
{
    struct bh_chunks chunks;
    struct bh_edge_certificate *certificate = bh_edge_keep(sizeof(*certificate) + name.len + 1);
    if (certificate == NULL) {
        return NULL;
    }
    certificate->version = document->version;
    certificate->generation = bh_edge.generation;
    certificate->keyring_generation = bh_edge.keyring_generation;
    certificate->name_len = name.len;
    ngx_memcpy(certificate->name, name.data, name.len);
    bh_chunks_init(&chunks);
    const char *problem = read_body(certificate, document->body, &chunks.arena);
    bh_chunks_fini(&chunks);
    ERR_clear_error(); /* the end of the PEM text is one; nginx would log it as another's */
    certificate->usable = problem == NULL;
    tell(certificate, problem, log);
    return certificate;
}

/* ---- by name ---- */

/* What could not be used may be usable with another keyring. */
static bool
is_current(const struct bh_edge_certificate *certificate, struct bh_str name, uint64_t version)
{
    return certificate != NULL && certificate->version == version &&
           certificate->generation == bh_edge.generation &&
           (certificate->usable || certificate->keyring_generation == bh_edge.keyring_generation) &&
           bh_str_eq((struct bh_str){certificate->name, certificate->name_len}, name);
}

static struct bh_edge_certificate *
find_document(const char *wildcard, struct bh_str domain, ngx_log_t *log)
{
    char text[BH_DOCUMENT_NAME_MAX + 1];
    struct bh_buf full;
    struct bh_document document;
    bh_buf_init(&full, text, sizeof(text));
    bh_buf_puts(&full, BH_EDGE_CERTIFICATE);
    bh_buf_puts(&full, wildcard);
    bh_buf_str_add(&full, domain);
    struct bh_str name = bh_buf_str(&full);
    if (!bh_buf_ok(&full) || !bh_snapshot_document(bh_edge.snapshot, name, &document)) {
        return NULL;
    }
    struct bh_edge_certificate **place = &places[bh_edge_hash(name) & (PLACES - 1)];
    if (!is_current(*place, name, document.version)) {
        free_certificate(*place);
        *place = read_certificate(name, &document, log);
    }
    return *place;
}

const struct bh_edge_certificate *
bh_edge_certificate_find(struct bh_str name, bool wildcards, ngx_log_t *log)
{
    struct bh_str label, rest;
    struct bh_edge_certificate *found = find_document("", name, log);
    if (found == NULL && wildcards && bh_str_cut(name, '.', &label, &rest)) {
        found = find_document("*.", rest, log);
    }
    return found;
}

void
bh_edge_certificates_wipe(void)
{
    for (size_t i = 0; i < PLACES; i++) {
        free_certificate(places[i]);
        places[i] = NULL;
    }
}
