/*
 * A strict JSON reader (RFC 8259) for input that nobody vouches for.
 *
 * Refuses: duplicate members (compared after unescaping), NUL and lone
 * surrogates, bytes that are not UTF-8, more than ${depth_max} levels (the
 * outermost value is level 1), white space or commas out of place, numbers
 * that JSON does not know, text after the value.
 */
#ifndef BH_CORE_JSON_H
#define BH_CORE_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/buf.h"
#include "core/error.h"
#include "core/str.h"

enum bh_json_kind {
    BH_JSON_OBJECT,
    BH_JSON_ARRAY,
    BH_JSON_STRING,
    BH_JSON_NUMBER,
    BH_JSON_TRUE,
    BH_JSON_FALSE,
    BH_JSON_NULL,
};

/* A parsed value: a tree in the arena, members in the order of the text. */
struct bh_json {
    enum bh_json_kind kind;
    struct bh_str name;    /* of a member, unescaped; empty elsewhere */
    struct bh_str text;    /* string: unescaped; number: its literal text */
    struct bh_json *first; /* object, array: first child */
    struct bh_json *next;  /* next sibling */
};

#define BH_JSON_DEPTH 16

/**
 * bh_json_parse(text, depth_max, arena, ret_value, err):
 * Read the whole of ${text} as one value; the tree and its strings live in
 * ${arena}.  BH_E_BAD_REQUEST with the byte offset and what was expected;
 * BH_E_NO_MEMORY.
 */
enum bh_code bh_json_parse(struct bh_str text, unsigned depth_max, struct bh_arena *arena,
    struct bh_json **ret_value, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_json_write(out, value):
 * ${value} as JSON text without white space; numbers as they stood in their text.
 */
void bh_json_write(struct bh_buf *out, const struct bh_json *value);

/**
 * bh_json_get(object, name): the member of that name, or NULL (also where ${object} is NULL or no
 * object).
 */
const struct bh_json *bh_json_get(const struct bh_json *object, const char *name);

/** bh_json_member(object, name): the same for a name that is no C string. */
const struct bh_json *bh_json_member(const struct bh_json *object, struct bh_str name);

/** bh_json_string(object, name, ret_text): the member as a string, borrowed; false where it is
 * absent or something else. */
bool bh_json_string(const struct bh_json *object, const char *name, struct bh_str *ret_text);

/**
 * bh_json_int(value, ret_number):
 * Is ${value} a number written as an integer (optional minus, digits only) that
 * fits int64?
 */
bool bh_json_int(const struct bh_json *value, int64_t *ret_number);

#endif
