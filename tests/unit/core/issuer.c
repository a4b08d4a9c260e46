/* Issuers: all that a document can say, every way to be refused, and whom a token is believed. */
#include "core/issuer.h"

#include <openssl/evp.h>
#include <stdio.h>

#include "core/buf.h"
#include "core/codec.h"
#include "tests/unit/core/eddsa.h"
#include "tests/unit/core/test.h"

/* RFC 8037 appendix A.1 and A.2 */
#define KEYS                                                                                       \
    "\"keys\":{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"k1\",\"x\":"               \
    "\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}"
#define HEAD "\"issuer\":\"https://id.example\",\"audiences\":[\"shop\",\"api://x\"]"
#define NOW 1700000000

struct fixture {
    struct bh_chunks chunks;
    struct bh_issuer issuer;
    struct bh_error err;
};

static enum bh_code
parse(struct fixture *f, const char *text)
{
    bh_chunks_init(&f->chunks);
    f->err = (struct bh_error){.code = BH_OK};
    char *copy = bh_arena_strdup(&f->chunks.arena, text);
    assert_non_null(copy);
    return bh_issuer_parse(bh_str_of(copy), &f->chunks.arena, &f->issuer, &f->err);
}

static void
done(struct fixture *f)
{
    bh_issuer_fini(&f->issuer);
    bh_issuer_fini(&f->issuer);
    bh_chunks_fini(&f->chunks);
}

static void
says_little(void **state)
{
    struct fixture f;
    (void)state;
    assert_code(parse(&f, "{" HEAD "}"), BH_OK);
    assert_str(f.issuer.issuer, "https://id.example");
    assert_int_equal(f.issuer.audiences.count, 2);
    assert_int_equal(f.issuer.algorithms, 7);
    assert_null(f.issuer.jwks);
    assert_str(f.issuer.subject, "sub");
    assert_str(f.issuer.roles, "roles");
    assert_str(f.issuer.scope, "scope");
    assert_int_equal(f.issuer.tenant.len + f.issuer.subject_prefix.len, 0);
    assert_int_equal(f.issuer.leeway_s, 5);
    assert_int_equal(f.issuer.max_age_s, 0);
    done(&f);
}

static void
is_refused(void **state)
{
    static const struct {
        const char *text;
        const char *pointer;
    } bad[] = {
        {"{}", "/issuer"},
        {"[]", ""},
        {"{\"issuer\":\"https://id.example\"}", "/audiences"},
        {"{\"issuer\":\"\",\"audiences\":[\"a\"]}", "/issuer"},
        {"{\"issuer\":\"a b\",\"audiences\":[\"a\"]}", "/issuer"},
        {"{\"issuer\":\"i\",\"audiences\":[]}", "/audiences"},
        {"{\"issuer\":\"i\",\"audiences\":\"a\"}", "/audiences"},
        {"{\"issuer\":\"i\",\"audiences\":[\"\"]}", "/audiences/0"},
        {"{" HEAD ",\"algorithms\":[]}", "/algorithms"},
        {"{" HEAD ",\"algorithms\":[\"HS256\"]}", "/algorithms/0"},
        {"{" HEAD ",\"algorithms\":[\"none\"]}", "/algorithms/0"},
        {"{" HEAD ",\"keys\":{}}", "/keys"},
        {"{" HEAD ",\"keys\":{\"keys\":[]}}", "/keys"},
        {"{" HEAD ",\"keys\":{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\"}]}}", "/keys"},
        {"{" HEAD ",\"claims\":{\"subject\":\"\"}}", "/claims/subject"},
        {"{" HEAD ",\"claims\":{\"email\":\"x\"}}", "/claims/email"},
        {"{" HEAD ",\"claims\":{\"tenant\":null}}", "/claims/tenant"},
        {"{" HEAD ",\"tenant_values\":{\"o1\":\"acme\"}}", "/tenant_values"},
        {"{" HEAD ",\"claims\":{\"tenant\":\"org\"},\"tenant_values\":{\"o1\":7}}",
            "/tenant_values"},
        {"{" HEAD ",\"claims\":{\"tenant\":\"org\"},\"tenant_values\":{\"o1\":\"No\"}}",
            "/tenant_values"},
        {"{" HEAD ",\"subject_prefix\":\"a b\"}", "/subject_prefix"},
        {"{" HEAD ",\"leeway_seconds\":301}", "/leeway_seconds"},
        {"{" HEAD ",\"max_age_seconds\":0}", "/max_age_seconds"},
        {"{" HEAD ",\"jku\":\"x\"}", "/jku"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct fixture f;
        if (parse(&f, bad[i].text) == BH_OK || strcmp(f.err.pointer, bad[i].pointer) != 0)
            fail_msg("%s: at \"%s\", not \"%s\"", bad[i].text, f.err.pointer, bad[i].pointer);
        assert_null(f.issuer.jwks);
        bh_chunks_fini(&f.chunks);
    }
}

/* ---- tokens ---- */

static struct bh_str
sign(struct bh_arena *arena, const char *header, const char *payload)
{
    struct bh_buf buf;
    bh_buf_init_arena(&buf, arena, 32768);
    put_eddsa_token(&buf, header, payload);
    assert_true(bh_buf_ok(&buf));
    return bh_buf_str(&buf);
}

#define HEADER "{\"alg\":\"EdDSA\",\"kid\":\"k1\"}"
#define TIMES                                                                                      \
    "\"iss\":\"https://id.example\",\"aud\":\"shop\",\"iat\":1699999990,\"exp\":1700000060"
#define CLAIMS(more) "{" TIMES ",\"sub\":\"u1\"" more "}"

struct shown {
    struct fixture f;
    struct bh_person person;
};

/* Show a token with ${payload} at the door of acme to an issuer that says ${document}. */
static enum bh_code
show(struct shown *s, const char *document, const char *payload)
{
    struct bh_jwt jwt;
    struct bh_issuer_door door = {BH_STR("acme"), NOW};
    assert_code(parse(&s->f, document), BH_OK);
    struct bh_str token = sign(&s->f.chunks.arena, HEADER, payload);
    assert_code(bh_jwt_parse(token, &s->f.chunks.arena, &jwt, &s->f.err), BH_OK);
    s->person = (struct bh_person){.until_s = 0};
    return bh_issuer_check(&s->f.issuer, &jwt, &door, &s->f.chunks.arena, &s->person, &s->f.err);
}

static void
expect(const char *document, const char *payload, enum bh_code wanted, const char *why)
{
    struct shown s;
    enum bh_code code = show(&s, document, payload);
    if (code != wanted || strstr(s.f.err.detail, why) == NULL)
        fail_msg("%s %s: %s \"%s\", not %s \"%s\"", document, payload, bh_code_slug(code),
            s.f.err.detail, bh_code_slug(wanted), why);
    done(&s.f);
}

#define DOC(more) "{" HEAD "," KEYS more "}"

static void
believes(void **state)
{
    struct shown s;
    (void)state;
    assert_code(
        show(&s, DOC(""),
            CLAIMS(",\"scope\":\"orders.read x\",\"roles\":[\"admin\",\"with space\",\"ops\"]")),
        BH_OK);
    assert_str(s.person.sub, "u1");
    assert_str(s.person.scope, "orders.read x");
    assert_int_equal(s.person.roles.count, 2); /* no policy can name the other */
    assert_str(s.person.roles.items[1], "ops");
    assert_int_equal(s.person.until_s, 1700000065);
    done(&s.f);
    assert_code(
        show(&s,
            DOC(",\"claims\":{\"subject\":\"email\",\"roles\":\"realm_access.roles\",\"scope\":\"scp\"},"
                "\"subject_prefix\":\"corp:\",\"max_age_seconds\":40"),
            CLAIMS(
                ",\"email\":\"a@b.example\",\"realm_access\":{\"roles\":\"x y\"},\"scp\":[\"r\",\"w\"]")),
        BH_OK);
    assert_str(s.person.sub, "corp:a@b.example");
    assert_str(s.person.scope, "r w");
    assert_int_equal(s.person.roles.count, 2);
    assert_int_equal(s.person.until_s, 1699999990 + 45);
    done(&s.f);
    expect(DOC(""),
        "{\"iss\":\"https://id.example\",\"aud\":[\"y\",\"api://x\"],\"sub\":\"u1\",\"exp\":1700000060}",
        BH_OK, "");
}

static void
refuses(void **state)
{
    (void)state;
    expect("{" HEAD "}", CLAIMS(""), BH_E_NOT_READY, "not known yet");
    expect(DOC(",\"algorithms\":[\"RS256\",\"ES256\"]"), CLAIMS(""), BH_E_TOKEN_INVALID, "alg");
    expect(DOC(""),
        "{\"iss\":\"https://id.example\",\"aud\":\"bank\",\"sub\":\"u1\",\"exp\":1700000060}",
        BH_E_TOKEN_INVALID, "audience");
    expect(DOC(""), "{" TIMES "}", BH_E_TOKEN_INVALID, "subject");
    expect(DOC(""), "{" TIMES ",\"sub\":\"a b\"}", BH_E_TOKEN_INVALID, "subject");
    expect(DOC(""), "{" TIMES ",\"sub\":\"\"}", BH_E_TOKEN_INVALID, "subject");
    expect(DOC(",\"claims\":{\"subject\":\"uid\"}"), CLAIMS(",\"uid\":7"), BH_E_TOKEN_INVALID,
        "subject");
    expect(DOC(""), CLAIMS(",\"scope\":\"a\\u0007b\""), BH_E_TOKEN_INVALID, "scope");
    expect(DOC(""), CLAIMS(",\"scope\":\"a  b\""), BH_E_TOKEN_INVALID, "scope");
    expect(DOC(""), CLAIMS(",\"scope\":\"a\\\"\""), BH_E_TOKEN_INVALID, "scope");
    expect(DOC(""), CLAIMS(",\"scope\":[\"a b\"]"), BH_E_TOKEN_INVALID, "scope");
    expect(DOC(""), CLAIMS(",\"scope\":{\"a\":1}"), BH_E_TOKEN_INVALID, "scope");
    expect(DOC(""), CLAIMS(",\"roles\":[1]"), BH_E_TOKEN_INVALID, "roles");
    expect(DOC(""), CLAIMS(",\"roles\":true"), BH_E_TOKEN_INVALID, "roles");
    expect(DOC(",\"max_age_seconds\":60"),
        "{\"iss\":\"https://id.example\",\"aud\":\"shop\",\"sub\":\"u1\",\"exp\":1700000060}",
        BH_E_TOKEN_INVALID, "issued");
    expect(DOC(",\"max_age_seconds\":5"), CLAIMS(""), BH_E_TOKEN_EXPIRED, "older");
    expect(DOC(""),
        "{\"iss\":\"https://id.example\",\"aud\":\"shop\",\"sub\":\"u1\",\"exp\":9223372036854775807}",
        BH_E_TOKEN_INVALID, "9999");
    expect(DOC(""),
        "{\"iss\":\"https://id.example\",\"aud\":\"shop\",\"sub\":\"u1\",\"exp\":1699999995}",
        BH_E_TOKEN_EXPIRED, "expired");
    expect(DOC(",\"leeway_seconds\":6"),
        "{\"iss\":\"https://id.example\",\"aud\":\"shop\",\"sub\":\"u1\",\"exp\":1699999995}",
        BH_OK, "");
}

static void
scopes_are_bounded(void **state)
{
    char word[300], payload[700];
    (void)state;
    memset(word, 'a', sizeof(word));
    word[255] = '\0';
    snprintf(payload, sizeof(payload), CLAIMS(",\"scope\":\"%s\""), word);
    expect(DOC(""), payload, BH_OK, "");
    snprintf(payload, sizeof(payload), CLAIMS(",\"scope\":[\"%s\",\"b\"]"), word);
    expect(DOC(""), payload, BH_E_TOKEN_INVALID, "255");
}

#define TENANT ",\"claims\":{\"tenant\":\"org.id\"}"
#define MAPPED TENANT ",\"tenant_values\":{\"o1\":\"acme\",\"o2\":\"globex\"}"
#define EXPIRED                                                                                    \
    "{\"iss\":\"https://id.example\",\"aud\":\"shop\",\"sub\":\"u1\",\"exp\":1699999990,"          \
    "\"org\":{\"id\":\"globex\"}}"

static void
tells_tenants_apart(void **state)
{
    (void)state;
    expect(DOC(TENANT), CLAIMS(",\"org\":{\"id\":\"acme\"}"), BH_OK, "");
    expect(DOC(TENANT), CLAIMS(",\"org\":{\"id\":[\"globex\",\"acme\"]}"), BH_OK, "");
    expect(
        DOC(TENANT), CLAIMS(",\"org\":{\"id\":\"globex\"}"), BH_E_TOKEN_TENANT_MISMATCH, "another");
    expect(DOC(TENANT), CLAIMS(",\"org\":{\"id\":[\"globex\"]}"), BH_E_TOKEN_TENANT_MISMATCH,
        "another");
    expect(DOC(TENANT), CLAIMS(",\"org\":{\"id\":[]}"), BH_E_TOKEN_INVALID, "no tenant");
    expect(DOC(TENANT), CLAIMS(""), BH_E_TOKEN_INVALID, "no tenant");
    expect(DOC(TENANT), CLAIMS(",\"org\":{\"id\":7}"), BH_E_TOKEN_INVALID, "no string");
    expect(DOC(TENANT), CLAIMS(",\"org\":{\"id\":[\"acme\",7]}"), BH_E_TOKEN_INVALID, "no string");
    expect(DOC(TENANT), EXPIRED, BH_E_TOKEN_INVALID, "another tenant and has expired");
    expect(DOC(MAPPED), CLAIMS(",\"org\":{\"id\":\"o1\"}"), BH_OK, "");
    expect(DOC(MAPPED), CLAIMS(",\"org\":{\"id\":\"o2\"}"), BH_E_TOKEN_TENANT_MISMATCH, "another");
    expect(
        DOC(MAPPED), CLAIMS(",\"org\":{\"id\":\"acme\"}"), BH_E_TOKEN_TENANT_MISMATCH, "another");
}

/* Where the signature is wrong, nobody learns that the rest is right. */
static void
a_forged_token_is_only_invalid(void **state)
{
    struct fixture f;
    struct bh_jwt jwt;
    struct bh_person person;
    struct bh_issuer_door door = {BH_STR("acme"), NOW};
    static const char *const payloads[] = {
        CLAIMS(",\"org\":{\"id\":\"acme\"}"), CLAIMS(",\"org\":{\"id\":\"globex\"}"), EXPIRED};
    (void)state;
    assert_code(parse(&f, DOC(TENANT)), BH_OK);
    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]); i++) {
        struct bh_str token = sign(&f.chunks.arena, HEADER, payloads[i]);
        char *last = (char *)(uintptr_t)token.data + token.len - 10;
        *last = *last == 'A' ? 'B' : 'A';
        assert_code(bh_jwt_parse(token, &f.chunks.arena, &jwt, &f.err), BH_OK);
        assert_code(bh_issuer_check(&f.issuer, &jwt, &door, &f.chunks.arena, &person, &f.err),
            BH_E_TOKEN_INVALID);
        assert_non_null(strstr(f.err.detail, "signature"));
    }
    done(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_little),
        cmocka_unit_test(is_refused),
        cmocka_unit_test(believes),
        cmocka_unit_test(refuses),
        cmocka_unit_test(scopes_are_bounded),
        cmocka_unit_test(tells_tenants_apart),
        cmocka_unit_test(a_forged_token_is_only_invalid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
