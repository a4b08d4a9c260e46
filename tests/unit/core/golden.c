/* core agrees with the vectors that tests/golden/make.py made without it. */
#include "tests/unit/core/test.h"

#include <stdio.h>

#include "core/bucket.h"
#include "core/codec.h"
#include "core/host.h"
#include "core/json.h"
#include "core/key.h"
#include "core/seal.h"
#include "core/token.h"
#include "core/usertoken.h"

#define FILE_MAX (1 << 20)

struct vectors {
    struct bh_chunks chunks;
    struct bh_json *root;
};

static void
load(struct vectors *vectors, const char *name)
{
    char path[512];
    struct bh_error err = {0};
    bh_chunks_init(&vectors->chunks);
    char *text = bh_arena_alloc(&vectors->chunks.arena, FILE_MAX);
    assert_non_null(text);
    snprintf(path, sizeof(path), "%s/%s.json", BH_GOLDEN, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t len = fread(text, 1, FILE_MAX, file);
    fclose(file);
    assert_in_range(len, 1, FILE_MAX - 1);
    enum bh_code code = bh_json_parse(
        (struct bh_str){text, len}, BH_JSON_DEPTH, &vectors->chunks.arena, &vectors->root, &err);
    if (code != BH_OK)
        fail_msg("%s: %s", path, err.detail);
}

static const struct bh_json *
list_of(const struct bh_json *object, const char *name)
{
    const struct bh_json *list = bh_json_get(object, name);
    assert_non_null(list);
    assert_int_equal(list->kind, BH_JSON_ARRAY);
    assert_non_null(list->first);
    return list->first;
}

static struct bh_str
text_of(const struct bh_json *object, const char *name)
{
    const struct bh_json *member = bh_json_get(object, name);
    assert_non_null(member);
    assert_int_equal(member->kind, BH_JSON_STRING);
    return member->text;
}

static int64_t
number_of(const struct bh_json *object, const char *name)
{
    int64_t number = 0;
    assert_true(bh_json_int(bh_json_get(object, name), &number));
    return number;
}

static struct bh_key
key_of(const struct bh_json *object, const char *name)
{
    struct bh_key key;
    assert_true(bh_hex_decode(text_of(object, name), key.bytes, sizeof(key.bytes)));
    return key;
}

static struct bh_uid
uid_of(const struct bh_json *object, const char *name)
{
    struct bh_uid uid;
    assert_true(bh_uid_parse(text_of(object, name), &uid));
    return uid;
}

static enum bh_code
expected_code(const struct bh_json *row)
{
    char slug[64];
    struct bh_str text = text_of(row, "expect");
    assert_in_range(text.len, 1, sizeof(slug) - 1);
    memcpy(slug, text.data, text.len);
    slug[text.len] = '\0';
    enum bh_code code = bh_code_find(slug);
    assert_int_not_equal(code, BH_E_INTERNAL);
    return code;
}

static void
check_case(const struct bh_json *row, enum bh_code code)
{
    enum bh_code wanted = expected_code(row);
    struct bh_str name = text_of(row, "name");
    if (code != wanted)
        fail_msg("\"%.*s\" is %s, not %s", (int)name.len, name.data, bh_code_slug(code),
            bh_code_slug(wanted));
}

static void
assert_key(const struct bh_key *key, const struct bh_json *row, const char *name)
{
    struct bh_key wanted = key_of(row, name);
    assert_memory_equal(key->bytes, wanted.bytes, sizeof(wanted.bytes));
}

static void
check_derivation(const struct bh_json *row)
{
    struct bh_key master = key_of(row, "master"), server, cell, key;
    struct bh_uid install = uid_of(row, "install"), name = uid_of(row, "name");
    uint32_t epoch = (uint32_t)number_of(row, "epoch");
    assert_code(bh_key_server(&master, &install, &name, epoch, &server, NULL), BH_OK);
    assert_key(&server, row, "server_key");
    assert_code(bh_key_cell_user(&master, &install, &name, epoch, &cell, NULL), BH_OK);
    assert_key(&cell, row, "cell_key");
    assert_code(bh_key_cell_hash(&master, &install, &name, &key, NULL), BH_OK);
    assert_key(&key, row, "hash_key");
    assert_code(bh_key_cell_seal(&master, &install, &name, &key, NULL), BH_OK);
    assert_key(&key, row, "seal_key");
    for (const struct bh_json *d = list_of(row, "databases"); d != NULL; d = d->next) {
        assert_code(bh_key_database(&server, text_of(d, "database"), &key, NULL), BH_OK);
        assert_key(&key, d, "key");
    }
    for (const struct bh_json *t = list_of(row, "tenants"); t != NULL; t = t->next) {
        struct bh_uid tenant = uid_of(t, "tenant");
        uint32_t tenant_epoch = (uint32_t)number_of(t, "epoch");
        assert_code(bh_key_tenant_user(&cell, &tenant, tenant_epoch, &key, NULL), BH_OK);
        assert_key(&key, t, "key");
    }
}

static void
keys_are_derived_as_the_vectors_say(void **state)
{
    (void)state;
    struct vectors vectors;
    load(&vectors, "keys");
    for (const struct bh_json *r = list_of(vectors.root, "derivations"); r != NULL; r = r->next)
        check_derivation(r);
    bh_chunks_fini(&vectors.chunks);
}

static void
compare_claims(const struct bh_token *claims, const struct bh_json *wanted)
{
    char aud[256];
    snprintf(aud, sizeof(aud), "%.*s/%.*s", (int)claims->server.len, claims->server.data,
        (int)claims->database.len, claims->database.data);
    assert_true(bh_str_is(text_of(wanted, "aud"), aud));
    assert_int_equal(claims->exp_s, number_of(wanted, "exp"));
    assert_int_equal(claims->iat_s, number_of(wanted, "iat"));
    assert_int_equal(claims->no, number_of(wanted, "no"));
    assert_int_equal(claims->epoch, number_of(wanted, "ver"));
    assert_true(bh_str_eq(claims->scope, text_of(wanted, "scope")));
    assert_true(bh_str_eq(claims->sub, text_of(wanted, "sub")));
    assert_true(bh_str_eq(claims->tenant, text_of(wanted, "tenant")));
    assert_true(bh_str_is(text_of(wanted, "use"), claims->use == BH_TOKEN_JOB ? "job" : "req"));
}

static void
check_tenant_token(const struct bh_json *root, const struct bh_json *row, struct bh_mac *mac)
{
    struct bh_str text = text_of(row, "token");
    struct bh_token_parts parts;
    enum bh_code code = bh_token_parse(text, &parts, NULL);
    if (code == BH_OK)
        code = bh_token_check(&parts, mac, text_of(root, "server"), text_of(root, "database"),
            number_of(root, "now"), NULL);
    check_case(row, code);
    if (code != BH_OK)
        return;
    char room[BH_TOKEN_MAX + 1];
    struct bh_buf again;
    bh_buf_init(&again, room, sizeof(room));
    assert_true(bh_str_eq(parts.kid, text_of(row, "kid")));
    compare_claims(&parts.claims, bh_json_get(row, "claims"));
    assert_code(bh_token_sign(mac, parts.kid, &parts.claims, &again, NULL), BH_OK);
    assert_true(bh_str_eq(bh_buf_str(&again), text));
}

static void
tenant_tokens_are_judged_as_the_vectors_say(void **state)
{
    (void)state;
    struct vectors vectors;
    load(&vectors, "token");
    struct bh_key key = key_of(vectors.root, "key");
    struct bh_mac *mac;
    assert_code(bh_mac_new(&key, &mac, NULL), BH_OK);
    for (const struct bh_json *r = list_of(vectors.root, "cases"); r != NULL; r = r->next)
        check_tenant_token(vectors.root, r, mac);
    bh_mac_free(mac);
    bh_chunks_fini(&vectors.chunks);
}

/* The MAC under the key that the kid names, or NULL. */
static struct bh_mac *
find_mac(const struct bh_json *root, const struct bh_usertoken_kid *kid)
{
    for (const struct bh_json *k = list_of(root, "keys"); k != NULL; k = k->next) {
        if (number_of(k, "no") != kid->no || number_of(k, "tenant_epoch") != kid->tenant_epoch ||
            number_of(k, "key_epoch") != kid->key_epoch)
            continue;
        struct bh_key key = key_of(k, "key");
        struct bh_mac *mac;
        assert_code(bh_mac_new(&key, &mac, NULL), BH_OK);
        return mac;
    }
    return NULL;
}

static enum bh_code
judge_user_token(const struct bh_json *root, struct bh_str text)
{
    struct bh_usertoken_door door = {
        .install = text_of(root, "install"),
        .tenant = text_of(root, "tenant"),
        .no = (int32_t)number_of(root, "no"),
        .tenant_epoch = (uint32_t)number_of(root, "tenant_epoch"),
        .now_s = number_of(root, "now"),
    };
    struct bh_usertoken token;
    struct bh_chunks chunks;
    bh_chunks_init(&chunks);
    enum bh_code code = bh_usertoken_parse(text, &chunks.arena, &token, NULL);
    if (code == BH_OK) {
        struct bh_mac *mac = find_mac(root, &token.kid);
        code = bh_usertoken_check(&token, mac, &door, NULL);
        bh_mac_free(mac);
    }
    bh_chunks_fini(&chunks);
    return code;
}

static void
user_tokens_are_judged_as_the_vectors_say(void **state)
{
    (void)state;
    struct vectors vectors;
    load(&vectors, "usertoken");
    for (const struct bh_json *r = list_of(vectors.root, "cases"); r != NULL; r = r->next)
        check_case(r, judge_user_token(vectors.root, text_of(r, "token")));
    bh_chunks_fini(&vectors.chunks);
}

/* The order of claims is not fixed: what we sign has to be believed, and to hold the same values.
 */
static void
a_signed_user_token_is_believed_under_the_key_of_the_vectors(void **state)
{
    (void)state;
    struct vectors vectors;
    load(&vectors, "usertoken");
    const struct bh_json *wanted = bh_json_get(vectors.root, "signed");
    struct bh_usertoken token = {
        .kid = {42, 3, 1},
        .tenant = text_of(vectors.root, "tenant"),
        .audience = text_of(vectors.root, "install"),
        .sub = text_of(wanted, "sub"),
        .scope = text_of(wanted, "scope"),
        .iat_s = number_of(wanted, "iat"),
        .exp_s = number_of(wanted, "exp"),
    };
    struct bh_mac *mac = find_mac(vectors.root, &token.kid);
    assert_non_null(mac);
    char room[BH_USERTOKEN_MAX + 1];
    struct bh_buf out;
    bh_buf_init(&out, room, sizeof(room));
    assert_code(bh_usertoken_sign(mac, &token, &out, NULL), BH_OK);
    assert_code(judge_user_token(vectors.root, bh_buf_str(&out)), BH_OK);
    assert_true(bh_str_eq(bh_buf_str(&out), text_of(wanted, "token")));
    bh_mac_free(mac);
    bh_chunks_fini(&vectors.chunks);
}

static void
check_sequence(const struct bh_json *row)
{
    uint32_t rate = (uint32_t)number_of(row, "rate"), burst = (uint32_t)number_of(row, "burst");
    uint64_t tat_ns = 0;
    for (const struct bh_json *s = list_of(row, "steps"); s != NULL; s = s->next) {
        struct bh_bucket_answer answer =
            bh_bucket_take(tat_ns, rate, burst, (uint64_t)number_of(s, "now"));
        assert_int_equal(
            answer.allowed ? BH_JSON_TRUE : BH_JSON_FALSE, bh_json_get(s, "allowed")->kind);
        assert_int_equal(answer.left, number_of(s, "left"));
        assert_int_equal(answer.next_s, number_of(s, "next_s"));
        tat_ns = answer.tat_ns;
    }
}

static void
the_bucket_answers_as_the_vectors_say(void **state)
{
    (void)state;
    struct vectors vectors;
    load(&vectors, "bucket");
    for (const struct bh_json *r = list_of(vectors.root, "sequences"); r != NULL; r = r->next)
        check_sequence(r);
    bh_chunks_fini(&vectors.chunks);
}

static void
check_host(const struct bh_json *row)
{
    char host[1024], id[BH_TENANT_ID_MAX + 1], answer[64];
    struct bh_str hex = text_of(row, "host_hex"), expect = text_of(row, "expect");
    size_t len = 0;
    assert_in_range(hex.len, 0, 2 * sizeof(host));
    assert_true(bh_hex_decode(hex, (uint8_t *)host, hex.len / 2));
    char *exact = exact_copy(host, hex.len / 2);
    enum bh_code code =
        bh_host_tenant((struct bh_str){exact, hex.len / 2}, text_of(row, "base"), id, &len, NULL);
    free(exact);
    if (code == BH_OK)
        assert_int_equal(len, strlen(id));
    snprintf(answer, sizeof(answer), "%s", code == BH_OK ? id : bh_code_slug(code));
    if (!bh_str_is(expect, answer))
        fail_msg("host %.*s names \"%s\", not \"%.*s\"", (int)hex.len, hex.data, answer,
            (int)expect.len, expect.data);
}

static void
hosts_name_tenants_as_the_vectors_say(void **state)
{
    (void)state;
    struct vectors vectors;
    load(&vectors, "host");
    for (const struct bh_json *r = list_of(vectors.root, "cases"); r != NULL; r = r->next)
        check_host(r);
    bh_chunks_fini(&vectors.chunks);
}

/* Sealed with the nonce of the vector it is the same text; opened it is what was sealed. */
static void
check_seal(const struct bh_json *row)
{
    char plain[2048], out[BH_SEAL_PLAIN_MAX + 1], text[4096];
    uint8_t nonce[BH_SEAL_NONCE];
    struct bh_key key = key_of(row, "key");
    struct bh_str hex = text_of(row, "plain_hex"), name = text_of(row, "name");
    struct bh_str sealed = text_of(row, "sealed"), secret = {plain, hex.len / 2};
    struct bh_buf opened, again;
    struct bh_error err;
    assert_in_range(hex.len, 0, 2 * sizeof(plain));
    assert_true(bh_hex_decode(hex, (uint8_t *)plain, secret.len));
    assert_true(bh_hex_decode(text_of(row, "nonce"), nonce, sizeof(nonce)));
    bh_buf_init(&opened, out, sizeof(out));
    bh_buf_init(&again, text, sizeof(text));
    char *exact = exact_copy(sealed.data, sealed.len);
    enum bh_code code = bh_unseal(&key, name, (struct bh_str){exact, sealed.len}, &opened, &err);
    free(exact);
    if (!bh_str_is(text_of(row, "expect"), code == BH_OK ? "ok" : bh_code_slug(code)))
        fail_msg("%.*s: %d", (int)sealed.len, sealed.data, (int)code);
    assert_int_equal(opened.len, code == BH_OK ? secret.len : 0);
    assert_memory_equal(out, plain, opened.len);
    assert_code(bh_seal(&key, nonce, name, secret, &again, &err), BH_OK);
    assert_int_equal(bh_str_eq(bh_buf_str(&again), sealed), code == BH_OK);
}

static void
secrets_are_sealed_and_opened_as_the_vectors_say(void **state)
{
    (void)state;
    struct vectors vectors;
    load(&vectors, "seal");
    for (const struct bh_json *r = list_of(vectors.root, "cases"); r != NULL; r = r->next)
        check_seal(r);
    bh_chunks_fini(&vectors.chunks);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_derived_as_the_vectors_say),
        cmocka_unit_test(tenant_tokens_are_judged_as_the_vectors_say),
        cmocka_unit_test(user_tokens_are_judged_as_the_vectors_say),
        cmocka_unit_test(a_signed_user_token_is_believed_under_the_key_of_the_vectors),
        cmocka_unit_test(the_bucket_answers_as_the_vectors_say),
        cmocka_unit_test(hosts_name_tenants_as_the_vectors_say),
        cmocka_unit_test(secrets_are_sealed_and_opened_as_the_vectors_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
