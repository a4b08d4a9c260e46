/*
 * A lexer as PostgreSQL's scan.l sees a statement, but with fewer kinds: it only
 * has to agree with itself.  Each token goes into FNV-1a with its kind before it
 * and a separator behind, so that no two sequences of tokens have the same bytes.
 */
#include "data/fingerprint.h"

#include <stdbool.h>

enum kind { END, WORD, QUOTED, LITERAL, OPERATOR, COMMA, SEMICOLON, OPEN, CLOSE };

struct token {
    enum kind kind;
    struct bh_str text; /* as written; of WORD to CLOSE */
};

struct shape {
    uint64_t hash;
    struct token last; /* the token before */
    bool list;         /* inside the parentheses after IN or the brackets after ARRAY */
    enum kind held;    /* COMMA or SEMICOLON that counts only if something follows */
};

#define FNV_OFFSET 14695981039346656037ULL
#define FNV_PRIME 1099511628211ULL

/* ---- characters ---- */

static bool
is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool
begins_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static bool
in_word(char c)
{
    return begins_word(c) || is_digit(c) || c == '$';
}

static bool
is_operator(char c)
{
    return c != '\0' && memchr("+-*/<>=~!@#%^&|`?", c, 17) != NULL;
}

/* With one of these an operator may end in a sign. */
static bool
is_special(char c)
{
    return c != '\0' && memchr("~!@#%^&|`?", c, 10) != NULL;
}

static char
lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static char
at(struct bh_str s, size_t i)
{
    return i < s.len ? s.data[i] : '\0';
}

static bool
is_word(struct bh_str s, const char *word)
{
    size_t len = strlen(word);

    if (s.len != len)
        return false;
    for (size_t i = 0; i < len; i++)
        if (lower(s.data[i]) != word[i])
            return false;
    return true;
}

/* ---- how long a token is; each looks at the start of ${s} ---- */

static size_t
line_comment(struct bh_str s)
{
    size_t i = 2;

    while (i < s.len && s.data[i] != '\n' && s.data[i] != '\r')
        i++;
    return i;
}

/* They nest. */
static size_t
block_comment(struct bh_str s)
{
    size_t depth = 1;
    size_t i = 2;

    while (i < s.len && depth > 0) {
        bool opens = s.data[i] == '/' && at(s, i + 1) == '*';
        bool closes = s.data[i] == '*' && at(s, i + 1) == '/';

        depth += opens;
        depth -= closes;
        i += opens || closes ? 2 : 1;
    }
    return i;
}

/* From ${quote} to the next single one; longer than ${s} where there is none. */
static size_t
quoted(struct bh_str s, char quote, bool backslash)
{
    size_t i = 1;

    while (i < s.len) {
        if (backslash && s.data[i] == '\\') {
            i += 2;
        } else if (s.data[i] != quote) {
            i++;
        } else if (at(s, i + 1) == quote) {
            i += 2;
        } else {
            return i + 1;
        }
    }
    return s.len + 1;
}

/* `$tag$ … $tag$`; 0 where it is none. */
static size_t
dollar_quoted(struct bh_str s)
{
    size_t tag = 1;

    while (tag < s.len && in_word(s.data[tag]) && s.data[tag] != '$')
        tag++;
    if (at(s, tag) != '$' || is_digit(at(s, 1)))
        return 0;
    tag++;
    for (size_t i = tag; i + tag <= s.len; i++)
        if (s.data[i] == '$' && memcmp(s.data + i, s.data, tag) == 0)
            return i + tag;
    return s.len;
}

static size_t
number(struct bh_str s)
{
    size_t i = 0;

    while (i < s.len && (in_word(s.data[i]) || s.data[i] == '.')) {
        bool exponent = lower(s.data[i]) == 'e';

        i++;
        if (exponent && (at(s, i) == '+' || at(s, i) == '-') && is_digit(at(s, i + 1)))
            i++;
    }
    return i;
}

static size_t
word(struct bh_str s)
{
    size_t i = 1;

    while (i < s.len && in_word(s.data[i]))
        i++;
    return i;
}

/* As PostgreSQL does, a sign at the end belongs to what follows: `=-1` is `= -1`. */
static size_t
operator(struct bh_str s)
{
    size_t i = 1;
    bool special = is_special(s.data[0]);

    while (i < s.len && is_operator(s.data[i]) && !(s.data[i] == '-' && at(s, i + 1) == '-') &&
           !(s.data[i] == '/' && at(s, i + 1) == '*'))
        special = is_special(s.data[i++]) || special;
    while (!special && i > 1 && (s.data[i - 1] == '+' || s.data[i - 1] == '-'))
        i--;
    return i;
}

static size_t
skip_blank(struct bh_str s)
{
    size_t i = 0;

    while (i < s.len) {
        struct bh_str rest = {s.data + i, s.len - i};

        if (is_space(rest.data[0]))
            i++;
        else if (rest.data[0] == '-' && at(rest, 1) == '-')
            i += line_comment(rest);
        else if (rest.data[0] == '/' && at(rest, 1) == '*')
            i += block_comment(rest);
        else
            break;
    }
    return i < s.len ? i : s.len;
}

/* ---- tokens ---- */

/* A letter that belongs to the string behind it: E'', B'', X'', N''. */
static bool
prefixed(struct bh_str s)
{
    return at(s, 1) == '\'' && memchr("eEbBxXnN", s.data[0], 8) != NULL;
}

static size_t
literal(struct bh_str s)
{
    char c = s.data[0];

    if (c == '\'')
        return quoted(s, '\'', false);
    if (prefixed(s))
        return 1 + quoted((struct bh_str){s.data + 1, s.len - 1}, '\'', lower(c) == 'e');
    if (is_digit(c) || (c == '.' && is_digit(at(s, 1))))
        return number(s);
    if (c == '$' && is_digit(at(s, 1)))
        return word(s);
    return c == '$' ? dollar_quoted(s) : 0;
}

static enum kind
punctuation(char c)
{
    switch (c) {
    case ',':
        return COMMA;
    case ';':
        return SEMICOLON;
    case '(':
    case '[':
        return OPEN;
    case ')':
    case ']':
        return CLOSE;
    default:
        return OPERATOR;
    }
}

/* The token at the start of ${s}, which is not empty; its length in ${ret_token}. */
static void
lex(struct bh_str s, struct token *ret_token)
{
    size_t len = literal(s);
    enum kind kind = LITERAL;

    if (len == 0 && s.data[0] == '"') {
        len = quoted(s, '"', false);
        /* Where it never ends it holds the rest of the text, whatever that is. */
        kind = len <= s.len ? QUOTED : LITERAL;
    } else if (len == 0 && begins_word(s.data[0])) {
        len = word(s);
        kind = WORD;
    } else if (len == 0) {
        kind = punctuation(s.data[0]);
        len = is_operator(s.data[0]) ? operator(s) : 1;
    }
    ret_token->kind = kind;
    ret_token->text = (struct bh_str){s.data, len < s.len ? len : s.len};
}

/* ---- the hash ---- */

static void
add_byte(struct shape *shape, char c)
{
    shape->hash = (shape->hash ^ (unsigned char)c) * FNV_PRIME;
}

/* "name" is name: both are hashed without quotes, and only what was not quoted is folded. */
static void
add_token(struct shape *shape, const struct token *token)
{
    struct bh_str text = token->text;

    add_byte(shape, (char)(token->kind == QUOTED ? WORD : token->kind));
    if (token->kind == LITERAL) {
        text = BH_STR("?");
    } else if (token->kind == QUOTED) {
        text.data++;
        text.len -= 2;
    }
    for (size_t i = 0; i < text.len; i++)
        add_byte(shape, token->kind == QUOTED ? text.data[i] : lower(text.data[i]));
    add_byte(shape, '\0');
}

/* Is ${token} the sign of the number at the start of ${rest}? */
static bool
is_sign(const struct shape *shape, const struct token *token, struct bh_str rest)
{
    char c = token->text.data[0];

    if (token->kind != OPERATOR || token->text.len != 1 || (c != '-' && c != '+'))
        return false;
    if (!is_digit(at(rest, 0)) && !(at(rest, 0) == '.' && is_digit(at(rest, 1))))
        return false;
    return shape->held == COMMA || shape->last.kind == OPERATOR || shape->last.kind == OPEN;
}

static bool
opens_list(const struct shape *shape, const struct token *token)
{
    struct bh_str before = shape->last.text;

    return token->kind == OPEN && shape->last.kind == WORD &&
           (is_word(before, "in") || is_word(before, "array"));
}

static void
take(struct shape *shape, const struct token *token)
{
    const struct token comma = {COMMA, BH_STR(",")};
    const struct token semicolon = {SEMICOLON, BH_STR(";")};
    bool repeated = shape->list && shape->held == COMMA && token->kind == LITERAL &&
                    shape->last.kind == LITERAL;

    if (token->kind == SEMICOLON && (shape->held == SEMICOLON || shape->last.kind == END))
        return;
    if (repeated) {
        shape->held = END;
        return;
    }
    if (shape->held != END)
        add_token(shape, shape->held == COMMA ? &comma : &semicolon);
    shape->held = END;
    if (token->kind == COMMA || token->kind == SEMICOLON) {
        shape->held = token->kind;
        return;
    }
    if (token->kind == OPEN || token->kind == CLOSE)
        shape->list = opens_list(shape, token);
    add_token(shape, token);
    shape->last = *token;
}

uint64_t
bh_fingerprint(struct bh_str sql)
{
    struct shape shape = {.hash = FNV_OFFSET};
    struct bh_str rest = {sql.data, sql.len < BH_FINGERPRINT_MAX ? sql.len : BH_FINGERPRINT_MAX};
    struct token token;
    size_t len;

    for (;;) {
        len = skip_blank(rest);
        rest = (struct bh_str){rest.data + len, rest.len - len};
        if (rest.len == 0)
            break;
        lex(rest, &token);
        rest = (struct bh_str){rest.data + token.text.len, rest.len - token.text.len};
        if (!is_sign(&shape, &token, rest))
            take(&shape, &token);
    }
    if (shape.held == COMMA)
        add_token(&shape, &(const struct token){COMMA, BH_STR(",")});
    return shape.hash;
}
