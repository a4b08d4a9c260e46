/* /v1/tenants/{}/certificates: TLS certificates of custom domains.  No answer ever has a key. */
#include <openssl/rand.h>
#include <string.h>
#include <time.h>

#include "control/api/api.h"
#include "control/api/page.h"
#include "control/api/write.h"
#include "control/registry/certificate.h"
#include "core/codec.h"
#include "core/host.h"
#include "core/seal.h"
#include "core/time.h"

static const struct bh_field rows[] = {
    {.name = "chain",
        .kind = BH_FIELD_STRING,
        .required = true,
        .max = BH_BODY_MAX,
        .offset = offsetof(struct bh_certificate_pem, chain)},
    {.name = "key",
        .kind = BH_FIELD_STRING,
        .required = true,
        .max = BH_BODY_MAX,
        .offset = offsetof(struct bh_certificate_pem, key)},
};
static const struct bh_fields fields = {rows, sizeof(rows) / sizeof(rows[0])};

/* ---- the path ---- */

static bool
is_name(struct bh_str name)
{
    if (bh_str_starts(name, "*."))
        name = (struct bh_str){name.data + 2, name.len - 2};
    return bh_domain_check(name, NULL) == BH_OK;
}

/* What can be no id or domain names nothing. */
static enum bh_code
read_path(struct bh_request *request, const char **ret_tenant, const char **ret_name,
    struct bh_error *err)
{
    *ret_tenant = bh_text(request, request->params[0]);
    *ret_name = bh_text(request, request->params[1]);
    if (*ret_tenant == NULL || *ret_name == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    if (bh_tenant_id_check(request->params[0], NULL) != BH_OK)
        return bh_fail(err, BH_E_NOT_FOUND, "there is no tenant of this id");
    return BH_OK;
}

/* ---- answers ---- */

static void
write_facts(struct bh_writer *w, const char *tenant, const struct bh_certificate *certificate)
{
    const struct bh_certificate_facts *facts = &certificate->facts;

    bh_write_text(w, "tenant", tenant);
    bh_write_text(w, "domain", certificate->name);
    bh_write_raw(w, "names", facts->names);
    bh_write_text(w, "issuer", facts->issuer);
    bh_write_text(w, "key_type", facts->key_type);
    bh_write_text(w, "fingerprint", facts->fingerprint);
    bh_write_time(w, "not_before", facts->not_before_us);
    bh_write_time(w, "not_after", facts->not_after_us);
    bh_write_bool(w, "served", certificate->served);
    bh_write_time(w, "updated_at", certificate->updated_us);
}

static enum bh_code
answer(struct bh_request *request, struct bh_reply *reply, const char *tenant, const char *name,
    struct bh_error *err)
{
    struct bh_writer w = {.buf = &reply->body};
    struct bh_certificate certificate;
    struct bh_json *body;
    struct bh_str chain;

    BH_TRY(bh_certificate_get(request->db, request->arena, tenant, name, &certificate, err));
    BH_TRY(bh_json_parse(bh_str_of(certificate.body), BH_JSON_DEPTH, request->arena, &body, err));
    if (!bh_json_string(body, "chain", &chain))
        return bh_fail(err, BH_E_INTERNAL, "the registry holds a certificate without a chain");
    bh_write_open(&w, NULL, '{');
    write_facts(&w, tenant, &certificate);
    bh_write_str(&w, "chain", chain);
    bh_write_close(&w, '}');
    return BH_OK;
}

BH_HANDLER(bh_certificates_get)
{
    const char *tenant;
    const char *name;

    BH_TRY(read_path(request, &tenant, &name, err));
    return answer(request, reply, tenant, name, err);
}

BH_HANDLER(bh_certificates_list)
{
    struct bh_writer w = {.buf = &reply->body};
    struct bh_certificates found;
    struct bh_list list = {0};
    const char *tenant;
    const char *unused;

    bh_page_read(request, &list.limit, &list.after);
    BH_TRY(bh_issues_code(&request->issues, err));
    BH_TRY(read_path(request, &tenant, &unused, err));
    BH_TRY(bh_certificate_list(request->db, request->arena, tenant, &list, &found, err));
    bh_page_begin(&w);
    for (size_t i = 0; i < found.count; i++) {
        bh_write_open(&w, NULL, '{');
        write_facts(&w, tenant, &found.items[i]);
        bh_write_close(&w, '}');
    }
    bh_page_end(
        request, &w, found.more && found.count > 0 ? found.items[found.count - 1].name : NULL);
    return BH_OK;
}

BH_HANDLER(bh_certificates_delete)
{
    const char *tenant;
    const char *name;

    BH_TRY(read_path(request, &tenant, &name, err));
    BH_TRY(answer(request, reply, tenant, name, err));
    return bh_certificate_delete(request->db, tenant, name, err);
}

/* ---- put ---- */

static enum bh_code
cell_seal_key(
    struct bh_request *request, const char *cell, struct bh_key *ret_key, struct bh_error *err)
{
    struct bh_cell_keys *keys = bh_arena_zalloc(request->arena, sizeof(*keys));

    if (keys == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    BH_TRY(bh_cell_keys_get(request->db, request->arena, cell, keys, err));
    return bh_key_cell_seal(request->config->master, &keys->install, &keys->cell, ret_key, err);
}

/* The document: the chain as it is, the key for this name and cell only. */
static enum bh_code
write_body(struct bh_request *request, const struct bh_certificate_wish *wish, struct bh_str der,
    struct bh_buf *out, struct bh_error *err)
{
    uint8_t nonce[BH_SEAL_NONCE];
    struct bh_writer w = {.buf = out};
    struct bh_buf sealed;
    struct bh_key key;
    const char *name = bh_arena_printf(request->arena, "certificate/%s", wish->name);

    bh_buf_init_arena(&sealed, request->arena, 2 * (size_t)BH_SEAL_PLAIN_MAX);
    if (name == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "out of memory");
    if (RAND_bytes(nonce, sizeof(nonce)) != 1)
        return bh_fail(err, BH_E_INTERNAL, "there is no randomness");
    BH_TRY(cell_seal_key(request, wish->cell, &key, err));
    enum bh_code code = bh_seal(&key, nonce, bh_str_of(name), der, &sealed, err);
    bh_wipe(&key, sizeof(key));
    BH_TRY(code);
    bh_write_open(&w, NULL, '{');
    bh_write_text(&w, "chain", wish->facts.chain);
    bh_write_str(&w, "sealed_key", bh_buf_str(&sealed));
    bh_write_time(&w, "not_after", wish->facts.not_after_us);
    bh_write_close(&w, '}');
    if (bh_buf_ok(&sealed) && bh_buf_ok(out))
        return BH_OK;
    return bh_fail_at(err, BH_E_INVALID, "/chain", "is too long: the document exceeds 64 KiB");
}

static enum bh_code
put(struct bh_request *request, const struct bh_certificate_pem *pem,
    struct bh_certificate_wish *wish, bool *ret_created, struct bh_error *err)
{
    char der[BH_SEAL_PLAIN_MAX + 1];
    const struct bh_certificate_check check = {pem, bh_str_of(wish->name), time(NULL)};
    struct bh_buf key;
    struct bh_buf body;

    bh_buf_init(&key, der, sizeof(der));
    bh_buf_init_arena(&body, request->arena, BH_FEED_BODY_MAX + 1);
    enum bh_code code = bh_certificate_check(&check, request->arena, &wish->facts, &key, err);
    if (code == BH_OK)
        code = write_body(request, wish, bh_buf_str(&key), &body, err);
    bh_wipe(der, sizeof(der));
    BH_TRY(code);
    wish->body = body.data;
    return bh_certificate_put(request->db, wish, ret_created, err);
}

static enum bh_code
read_wish(struct bh_request *request, struct bh_certificate_pem *pem,
    struct bh_certificate_wish *wish, struct bh_error *err)
{
    struct bh_tenant tenant;

    if (!is_name(request->params[1]))
        (void)bh_issues_add(&request->issues, BH_ISSUE_VALUE, NULL, "/domain",
            "must be a domain name in lower case, or *. and one");
    BH_TRY(bh_body_read(request, &fields, pem, err));
    BH_TRY(bh_tenant_get(request->db, request->arena, wish->tenant, &tenant, err));
    wish->cell = tenant.cell;
    return BH_OK;
}

/* Arenas are freed, not wiped: the key was there in the body, and as the member's text. */
static void
forget_key(struct bh_request *request, const struct bh_certificate_pem *pem)
{
    const struct bh_json *member = bh_json_get(request->json, "key");

    if (pem->key.data != NULL)
        bh_wipe((void *)(uintptr_t)pem->key.data, pem->key.len);
    if (member != NULL && member->kind == BH_JSON_STRING && member->text.data != NULL)
        bh_wipe((void *)(uintptr_t)member->text.data, member->text.len);
    bh_wipe((void *)(uintptr_t)request->body.data, request->body.len);
}

BH_HANDLER(bh_certificates_put)
{
    struct bh_certificate_pem pem = {0};
    struct bh_certificate_wish wish = {0};
    bool created = false;

    enum bh_code code = read_path(request, &wish.tenant, &wish.name, err);
    if (code == BH_OK)
        code = read_wish(request, &pem, &wish, err);
    if (code == BH_OK)
        code = put(request, &pem, &wish, &created, err);
    forget_key(request, &pem);
    BH_TRY(code);
    reply->status = created ? 201 : 200;
    return answer(request, reply, wish.tenant, wish.name, err);
}
