#include "core/issuer.h"

#include <stddef.h>

#include "core/buf.h"
#include "core/fields.h"
#include "core/tenant.h"
#include "core/token.h"

#define TIME_MAX_S INT64_C(253402300799) /* the year 9999: sums of times stay numbers */
#define ROLE_MAX 64                      /* as a policy names one */

/* ---- the document ---- */

struct text {
    struct bh_str issuer, subject, tenant, roles, scope, prefix;
    const struct bh_json *audiences, *algorithms, *keys, *values;
    int64_t leeway_s, max_age_s;
};

/* Also what a header or a log shows: printable ASCII. */
static enum bh_code
check_printable(struct bh_str text, struct bh_error *err)
{
    bool ok = text.len > 0;
    for (size_t i = 0; ok && i < text.len; i++)
        ok = text.data[i] > ' ' && text.data[i] <= '~';
    return ok ? BH_OK : bh_fail(err, BH_E_INVALID, "must be printable ASCII without spaces");
}

static enum bh_code
check_path(struct bh_str text, struct bh_error *err)
{
    return text.len > 0 && bh_utf8_valid(text) && memchr(text.data, '\0', text.len) == NULL
               ? BH_OK
               : bh_fail(err, BH_E_INVALID, "must name a claim");
}

static enum bh_code
check_algorithm(struct bh_str text, struct bh_error *err)
{
    enum bh_jwk_alg alg;
    return bh_jwk_alg_find(text, &alg)
               ? BH_OK
               : bh_fail(err, BH_E_INVALID, "must be RS256, ES256 or EdDSA");
}

static enum bh_code
check_prefix(struct bh_str text, struct bh_error *err)
{
    return text.len == 0 || bh_token_word_valid(text)
               ? BH_OK
               : bh_fail(err, BH_E_INVALID, "must be printable ASCII without space, \" and \\");
}

#define FIELD(member, text_, kind_, ...)                                                           \
    {                                                                                              \
        .name = (text_), .kind = (kind_), .offset = offsetof(struct text, member), __VA_ARGS__     \
    }

static const struct bh_field claim_rows[] = {
    FIELD(subject, "subject", BH_FIELD_STRING, .max = 200, .rule = check_path),
    FIELD(tenant, "tenant", BH_FIELD_STRING, .max = 200, .rule = check_path),
    FIELD(roles, "roles", BH_FIELD_STRING, .max = 200, .rule = check_path),
    FIELD(scope, "scope", BH_FIELD_STRING, .max = 200, .rule = check_path),
};
static const struct bh_fields claim_fields = {
    claim_rows, sizeof(claim_rows) / sizeof(claim_rows[0])};

static const struct bh_field rows[] = {
    FIELD(issuer, "issuer", BH_FIELD_STRING, .min = 1, .max = 500, .rule = check_printable,
        .required = true),
    FIELD(audiences, "audiences", BH_FIELD_WORDS, .max = BH_ISSUER_AUDIENCES_MAX,
        .rule = check_printable, .required = true),
    FIELD(
        algorithms, "algorithms", BH_FIELD_WORDS, .max = BH_JWK_ALG_COUNT, .rule = check_algorithm),
    FIELD(keys, "keys", BH_FIELD_TREE),
    {.name = "claims", .kind = BH_FIELD_OBJECT, .fields = &claim_fields},
    FIELD(values, "tenant_values", BH_FIELD_TREE),
    FIELD(prefix, "subject_prefix", BH_FIELD_STRING, .max = 100, .rule = check_prefix),
    FIELD(leeway_s, "leeway_seconds", BH_FIELD_INT, .min = 0, .max = 300),
    FIELD(max_age_s, "max_age_seconds", BH_FIELD_INT, .min = 1, .max = 31536000),
};
static const struct bh_fields fields = {rows, sizeof(rows) / sizeof(rows[0])};

struct build {
    const char *at;
    struct bh_arena *arena;
    struct bh_issues *issues;
};

static void
report(const struct build *build, const struct bh_json *item, const char *place, const char *detail)
{
    const char *pointer = bh_arena_printf(build->arena, "%s%s", build->at, place);
    if (pointer == NULL)
        build->issues->failed = true;
    else
        (void)bh_issues_add(build->issues, BH_ISSUE_VALUE, item, pointer, detail);
}

static unsigned
algorithms_of(const struct bh_json *array)
{
    unsigned bits = 0;
    enum bh_jwk_alg alg;
    if (array == NULL)
        return (1U << BH_JWK_ALG_COUNT) - 1;
    for (const struct bh_json *item = array->first; item != NULL; item = item->next)
        if (bh_jwk_alg_find(item->text, &alg))
            bits |= 1U << alg;
    return bits;
}

static void
check_values(const struct build *build, const struct bh_json *values)
{
    for (const struct bh_json *item = values->first; item != NULL; item = item->next)
        if (item->kind != BH_JSON_STRING || bh_tenant_id_check(item->text, NULL) != BH_OK)
            report(build, item, "/tenant_values", "each value must be a tenant's id");
}

static void
read_keys(const struct build *build, const struct bh_json *keys, struct bh_issuer *issuer)
{
    struct bh_error err = {.code = BH_OK};
    enum bh_code code = bh_jwks_read(keys, &issuer->jwks, &err);
    if (code == BH_E_NO_MEMORY)
        build->issues->failed = true;
    else if (code != BH_OK)
        report(build, keys, "/keys", err.detail);
}

static void
build_issuer(const struct build *build, const struct text *text, struct bh_issuer *issuer)
{
    *issuer = (struct bh_issuer){
        .issuer = text->issuer,
        .audiences = bh_words_of(text->audiences, build->arena),
        .algorithms = algorithms_of(text->algorithms),
        .subject = text->subject,
        .tenant = text->tenant,
        .roles = text->roles,
        .scope = text->scope,
        .subject_prefix = text->prefix,
        .tenant_values = text->values,
        .leeway_s = text->leeway_s,
        .max_age_s = text->max_age_s,
    };
    if (text->audiences->first == NULL)
        report(build, text->audiences, "/audiences", "must name one at least");
    else if (issuer->audiences.count == 0)
        build->issues->failed = true;
    if (issuer->algorithms == 0)
        report(build, text->algorithms, "/algorithms", "must name one at least");
    if (text->values != NULL) {
        check_values(build, text->values);
        if (text->tenant.len == 0)
            report(build, text->values, "/tenant_values", "goes with claims/tenant");
    }
    if (text->keys != NULL)
        read_keys(build, text->keys, issuer);
}

void
bh_issuer_read(const struct bh_json *value, const char *at, struct bh_arena *arena,
    struct bh_issues *issues, struct bh_issuer *ret_issuer)
{
    struct text text = {.subject = BH_STR("sub"),
        .tenant = BH_STR(""),
        .roles = BH_STR("roles"),
        .scope = BH_STR("scope"),
        .prefix = BH_STR(""),
        .leeway_s = 5};
    struct build build = {at, arena, issues};
    size_t before = issues->count;
    *ret_issuer = (struct bh_issuer){.jwks = NULL};
    bh_fields_read_at(&fields, value, at, &text, issues);
    if (issues->count == before)
        build_issuer(&build, &text, ret_issuer);
    if (issues->count != before || issues->failed)
        bh_issuer_fini(ret_issuer);
}

enum bh_code
bh_issuer_parse(
    struct bh_str text, struct bh_arena *arena, struct bh_issuer *ret_issuer, struct bh_error *err)
{
    struct bh_json *value;
    struct bh_issues issues;
    *ret_issuer = (struct bh_issuer){.jwks = NULL};
    BH_TRY(bh_json_parse(text, BH_JSON_DEPTH, arena, &value, err));
    bh_issues_init(&issues, arena);
    bh_issuer_read(value, "", arena, &issues, ret_issuer);
    return bh_issues_code(&issues, err);
}

void
bh_issuer_fini(struct bh_issuer *issuer)
{
    bh_jwks_free(issuer->jwks);
    issuer->jwks = NULL;
}

/* ---- a token ---- */

static enum bh_code
invalid(struct bh_error *err, const char *what)
{
    return bh_fail(err, BH_E_TOKEN_INVALID, "not a token of an issuer: %s", what);
}

static bool
find_audience(const struct bh_issuer *issuer, const struct bh_jwt *jwt, struct bh_str *ret_audience)
{
    for (size_t i = 0; i < issuer->audiences.count; i++) {
        *ret_audience = issuer->audiences.items[i];
        if (bh_jwt_is_for(jwt, *ret_audience))
            return true;
    }
    return false;
}

static bool
is_role(struct bh_str text)
{
    return text.len <= ROLE_MAX && bh_token_word_valid(text);
}

/* The words of a claim that is a string of them, or an array of strings that are one each. */
struct words {
    const struct bh_json *item; /* of an array */
    struct bh_str rest;         /* of a string */
    bool more;
};

static bool
words_begin(const struct bh_json *claim, struct words *words)
{
    *words = (struct words){.more = false};
    if (claim == NULL || claim->kind == BH_JSON_NULL)
        return true;
    if (claim->kind == BH_JSON_STRING) {
        words->rest = claim->text;
        words->more = claim->text.len > 0;
        return true;
    }
    words->item = claim->first;
    return claim->kind == BH_JSON_ARRAY;
}

/* False at the end; ${ret_ok} is false for what is no string. */
static bool
words_next(struct words *words, struct bh_str *ret_word, bool *ret_ok)
{
    *ret_ok = true;
    if (words->item != NULL) {
        *ret_ok = words->item->kind == BH_JSON_STRING;
        *ret_word = words->item->text;
        words->item = words->item->next;
        return true;
    }
    if (!words->more)
        return false;
    words->more = bh_str_cut(words->rest, ' ', ret_word, &words->rest);
    if (!words->more)
        *ret_word = words->rest;
    return true;
}

/*
 * The application believes the whole scope: none of it is left out silently, so what a tenant token
 * cannot carry refuses the token.
 */
static enum bh_code
read_scope(const struct bh_json *claim, struct bh_arena *arena, struct bh_str *ret_scope,
    struct bh_error *err)
{
    struct words words;
    struct bh_str word;
    struct bh_buf scope;
    bool ok = words_begin(claim, &words);
    char *room = bh_arena_alloc(arena, BH_TOKEN_SCOPE_MAX + 1);
    if (room == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for a token");
    bh_buf_init(&scope, room, BH_TOKEN_SCOPE_MAX + 1);
    while (ok && words_next(&words, &word, &ok)) {
        ok = ok && bh_token_word_valid(word);
        if (ok && scope.len > 0)
            bh_buf_putc(&scope, ' ');
        if (ok)
            bh_buf_str_add(&scope, word);
    }
    if (!ok)
        return invalid(err, "a word of its scope has characters that none may have");
    if (!bh_buf_ok(&scope))
        return invalid(err, "its scope is longer than 255 bytes");
    *ret_scope = bh_buf_str(&scope);
    return BH_OK;
}

/* A role only ever grants, and only where a policy names it: what none can name is left out. */
static enum bh_code
read_roles(const struct bh_json *claim, struct bh_arena *arena, struct bh_words *ret_roles,
    struct bh_error *err)
{
    struct words words;
    struct bh_str word, *items;
    size_t count = 0;
    bool ok = words_begin(claim, &words);
    items = bh_arena_alloc(arena, BH_ISSUER_ROLES_MAX * sizeof(*items));
    if (items == NULL)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for a token");
    while (ok && words_next(&words, &word, &ok)) {
        if (ok && is_role(word) && count == BH_ISSUER_ROLES_MAX)
            return invalid(err, "it has more than 256 roles");
        if (ok && is_role(word))
            items[count++] = word;
    }
    if (!ok)
        return invalid(err, "its roles are neither a string nor an array of strings");
    *ret_roles = (struct bh_words){items, count};
    return BH_OK;
}

static enum bh_code
read_subject(const struct bh_issuer *issuer, const struct bh_json *claim, struct bh_arena *arena,
    struct bh_str *ret_sub, struct bh_error *err)
{
    if (claim == NULL || claim->kind != BH_JSON_STRING || !bh_token_word_valid(claim->text))
        return invalid(
            err, "its subject is not 1 to 255 printable characters without space, \" and \\");
    *ret_sub = claim->text;
    if (issuer->subject_prefix.len == 0)
        return BH_OK;
    ret_sub->len = issuer->subject_prefix.len + claim->text.len;
    if (ret_sub->len > BH_TOKEN_SUB_MAX)
        return invalid(err, "its subject with the prefix is longer than 255 characters");
    ret_sub->data = bh_arena_printf(arena, "%.*s%.*s", (int)issuer->subject_prefix.len,
        issuer->subject_prefix.data, (int)claim->text.len, claim->text.data);
    return ret_sub->data == NULL ? bh_fail(err, BH_E_NO_MEMORY, "no memory for a token") : BH_OK;
}

static enum bh_code
read_person(const struct bh_issuer *issuer, const struct bh_jwt *jwt, struct bh_arena *arena,
    struct bh_person *person, struct bh_error *err)
{
    BH_TRY(read_subject(issuer, bh_jwt_claim(jwt, issuer->subject), arena, &person->sub, err));
    BH_TRY(read_scope(bh_jwt_claim(jwt, issuer->scope), arena, &person->scope, err));
    BH_TRY(read_roles(bh_jwt_claim(jwt, issuer->roles), arena, &person->roles, err));
    person->until_s = jwt->exp_s + issuer->leeway_s;
    if (issuer->max_age_s > 0 &&
        jwt->iat_s + issuer->max_age_s + issuer->leeway_s < person->until_s)
        person->until_s = jwt->iat_s + issuer->max_age_s + issuer->leeway_s;
    return BH_OK;
}

static bool
names_tenant(const struct bh_issuer *issuer, const struct bh_json *value, struct bh_str id)
{
    if (issuer->tenant_values == NULL)
        return bh_str_eq(value->text, id);
    const struct bh_json *mapped = bh_json_member(issuer->tenant_values, value->text);
    return mapped != NULL && bh_str_eq(mapped->text, id);
}

/* Is the token of that tenant's?  ${ret_other}: it is of others'. */
static enum bh_code
check_tenant(const struct bh_issuer *issuer, const struct bh_jwt *jwt, struct bh_str id,
    bool *ret_other, struct bh_error *err)
{
    *ret_other = false;
    if (issuer->tenant.len == 0)
        return BH_OK;
    const struct bh_json *claim = bh_jwt_claim(jwt, issuer->tenant);
    const struct bh_json *item = claim;
    if (claim != NULL && claim->kind == BH_JSON_ARRAY)
        item = claim->first;
    if (item == NULL)
        return invalid(err, "it names no tenant");
    *ret_other = true;
    for (; item != NULL; item = item == claim ? NULL : item->next) {
        if (item->kind != BH_JSON_STRING)
            return invalid(err, "its tenant is no string");
        if (names_tenant(issuer, item, id))
            *ret_other = false;
    }
    return BH_OK;
}

/* What costs little. */
static enum bh_code
check_cheap(const struct bh_issuer *issuer, const struct bh_jwt *jwt, struct bh_str *ret_audience,
    struct bh_error *err)
{
    if (issuer->jwks == NULL)
        return bh_fail(err, BH_E_NOT_READY, "the keys of the token's issuer are not known yet");
    if ((issuer->algorithms >> jwt->alg & 1) == 0)
        return invalid(err, "its alg is not one that the issuer may use here");
    if (!find_audience(issuer, jwt, ret_audience))
        return invalid(err, "it is for another audience");
    if (issuer->max_age_s > 0 && jwt->iat_s == 0)
        return invalid(err, "it does not say when it was issued");
    if (jwt->exp_s > TIME_MAX_S || jwt->iat_s > TIME_MAX_S || jwt->nbf_s > TIME_MAX_S)
        return invalid(err, "its times are beyond the year 9999");
    return BH_OK;
}

enum bh_code
bh_issuer_check(const struct bh_issuer *issuer, const struct bh_jwt *jwt,
    const struct bh_issuer_door *door, struct bh_arena *arena, struct bh_person *ret_person,
    struct bh_error *err)
{
    bool other;
    struct bh_jwt_door inner = {
        .issuer = issuer->issuer, .leeway_s = issuer->leeway_s, .now_s = door->now_s};
    struct bh_person person;
    BH_TRY(check_cheap(issuer, jwt, &inner.audience, err));
    BH_TRY(read_person(issuer, jwt, arena, &person, err));
    BH_TRY(check_tenant(issuer, jwt, door->tenant, &other, err));
    enum bh_code code = bh_jwt_check(jwt, issuer->jwks, &inner, err);
    if (code == BH_OK && door->now_s >= person.until_s)
        code = bh_fail(err, BH_E_TOKEN_EXPIRED, "the token is older than its issuer's may be");
    if (other && code == BH_E_TOKEN_EXPIRED)
        return invalid(err, "it is of another tenant and has expired");
    if (other && code == BH_OK)
        return bh_fail(err, BH_E_TOKEN_TENANT_MISMATCH, "the token is of another tenant");
    if (code == BH_OK)
        *ret_person = person;
    return code;
}
