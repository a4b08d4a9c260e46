/*
 * The issuers and API keys that tenants trust, as the snapshot has them.  An issuer is kept parsed
 * until its document changes: its keys cost more to read than a signature to verify.
 */
#include "edge/edge.h"

#include <openssl/evp.h>

#include "core/buf.h"

#define PLACES 1024 /* a power of two */

struct place {
    char name[BH_DOCUMENT_NAME_MAX + 1];
    uint64_t version;
    uint64_t generation; /* of the snapshot file */
    uint64_t print;
    bool usable;
    struct bh_issuer issuer;
    struct bh_chunks chunks;
};

static struct place
    *places[PLACES]; /* by a hash of the name; whoever comes later takes the place */

uint64_t
bh_edge_print(struct bh_str body)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    uint64_t print = 0;
    if (EVP_Digest(body.data, body.len, digest, NULL, EVP_sha256(), NULL) == 1) {
        memcpy(&print, digest, sizeof(print));
    }
    return print == 0 ? 1 : print;
}

static void
free_place(struct place *place)
{
    if (place != NULL) {
        bh_issuer_fini(&place->issuer);
        bh_chunks_fini(&place->chunks);
        ngx_free(place);
    }
}

/* Texts of the issuer point into what was parsed: a copy, LMDB's pages are not ours. */
static void
parse(struct place *place, struct bh_str body, ngx_log_t *log)
{
    struct bh_error err = {.code = BH_OK};
    char *copy = bh_arena_strndup(&place->chunks.arena, body.data, body.len);
    enum bh_code code = copy == NULL ? BH_E_NO_MEMORY
                                     : bh_issuer_parse((struct bh_str){copy, body.len},
                                           &place->chunks.arena, &place->issuer, &err);
    place->usable = code == BH_OK;
    if (code != BH_OK) {
        ngx_log_error(NGX_LOG_ERR, log, 0,
            "bulkhead: %s: %s at \"%s\": its tokens are not accepted", place->name,
            copy == NULL ? "no memory" : err.detail, err.pointer);
    }
}

static struct place *
make_place(struct bh_str name, const struct bh_document *document, ngx_log_t *log)
{
    struct place *place = bh_edge_keep(sizeof(*place));
    if (place == NULL) {
        return NULL;
    }
    memcpy(place->name, name.data, name.len);
    place->version = document->version;
    place->generation = bh_edge.generation;
    place->print = bh_edge_print(document->body);
    bh_chunks_init(&place->chunks);
    parse(place, document->body, log);
    return place;
}

static struct place **
slot_of(struct bh_str name)
{
    ngx_uint_t hash = ngx_murmur_hash2((u_char *)(uintptr_t)name.data, name.len);
    return &places[hash & (PLACES - 1)];
}

static bool
holds(const struct place *place, struct bh_str name, uint64_t version)
{
    return place != NULL && bh_str_is(name, place->name) && place->version == version &&
           place->generation == bh_edge.generation;
}

static struct place *
find(struct bh_str name, ngx_log_t *log)
{
    struct bh_document document;
    if (!bh_snapshot_document(bh_edge.snapshot, name, &document)) {
        return NULL;
    }
    struct place **slot = slot_of(name);
    if (holds(*slot, name, document.version)) {
        return *slot;
    }
    struct place *place = make_place(name, &document, log);
    if (place == NULL) {
        return NULL;
    }
    free_place(*slot);
    *slot = place;
    return place;
}

const struct bh_issuer *
bh_edge_issuer(struct bh_str document, uint64_t *ret_print, ngx_log_t *log)
{
    struct place *place = find(document, log);
    if (place == NULL || !place->usable) {
        return NULL;
    }
    *ret_print = place->print;
    return &place->issuer;
}

uint64_t
bh_edge_source_print(struct bh_str document)
{
    struct bh_document found;
    if (!bh_snapshot_document(bh_edge.snapshot, document, &found)) {
        return 0;
    }
    const struct place *place = *slot_of(document);
    return holds(place, document, found.version) ? place->print : bh_edge_print(found.body);
}
