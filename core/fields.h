/*
 * Members of a JSON object, checked and read by a table.
 *
 * The same rows serve the API's bodies and the command line's files, so that
 * both accept and refuse the same things in the same words.  Everything that
 * is wrong is found in one walk and named by its place.
 */
#ifndef BH_CORE_FIELDS_H
#define BH_CORE_FIELDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/arena.h"
#include "core/error.h"
#include "core/json.h"
#include "core/str.h"

enum bh_field_kind {
    BH_FIELD_STRING, /* a struct bh_str at offset; min and max count characters */
    BH_FIELD_INT,    /* an int64_t at offset; digits only, min to max */
    BH_FIELD_UINT,   /* a uint64_t at offset; digits only, the whole range */
    BH_FIELD_BOOL,   /* a bool at offset */
    BH_FIELD_WORDS,  /* a const struct bh_json * at offset: an array of at most max strings, each by
                        the  rule */
    BH_FIELD_OBJECT, /* fields of its own, read into the same struct */
    BH_FIELD_LIST,   /* a const struct bh_json * at offset: an array of at most max objects */
    BH_FIELD_TREE,   /* a const struct bh_json * at offset: any object */
    BH_FIELD_IGNORED /* read-only: accepted whatever it is, not read */
};

struct bh_fields;

struct bh_field {
    const char *name;
    enum bh_field_kind kind;
    bool required;
    int64_t min;
    int64_t max;
    size_t offset; /* where the value goes in the struct that is filled */
    /* A string's (or word's) further rule (may be NULL): BH_E_INVALID, detail continues the field's
     * name. */
    enum bh_code (*rule)(struct bh_str text, struct bh_error *err);
    const struct bh_fields *fields; /* of an object, or of each object of a list */
};

struct bh_fields {
    const struct bh_field *rows;
    size_t count;
};

enum bh_issue_kind {
    BH_ISSUE_UNKNOWN, /* no such member: the key is at fault */
    BH_ISSUE_MISSING, /* a required member is not there */
    BH_ISSUE_VALUE    /* wrong type or illegal value */
};

/* One thing that is wrong. */
struct bh_issue {
    enum bh_issue_kind kind;
    const char *pointer;      /* RFC 6901, without # */
    const char *detail;       /* "must be a string" */
    const char *suggestion;   /* the known name that an unknown one resembles, or NULL */
    const struct bh_json *at; /* the member; NULL where it is missing */
    struct bh_issue *next;
};

struct bh_issues {
    struct bh_arena *arena; /* of the issues and their texts */
    struct bh_issue *first;
    struct bh_issue *last;
    size_t count; /* counted on beyond BH_ISSUES_MAX, kept no further */
    bool failed;  /* out of memory */
};

#define BH_ISSUES_MAX 64

/** bh_issues_init(issues, arena): none yet. */
void bh_issues_init(struct bh_issues *issues, struct bh_arena *arena);

/**
 * bh_issues_add(issues, kind, at, pointer, detail): one more; texts are copied.  Returns it, or
 * NULL.
 */
struct bh_issue *bh_issues_add(struct bh_issues *issues, enum bh_issue_kind kind,
    const struct bh_json *at, const char *pointer, const char *detail);

/**
 * bh_issues_code(issues, err):
 * BH_OK where there are none; else BH_E_INVALID (or BH_E_NO_MEMORY) with the
 * first one in ${err}.
 */
enum bh_code bh_issues_code(const struct bh_issues *issues, struct bh_error *err) BH_MUSTCHECK;

/**
 * bh_fields_read(fields, value, target, issues):
 * Check the object ${value} against ${fields} and write what it has to the
 * struct ${target}; members that are absent leave their place as it is, so the
 * caller fills in the defaults before.  ${target} may be NULL: check only.
 * What is wrong goes to ${issues}, in the order of the document, missing
 * members last.
 */
void bh_fields_read(const struct bh_fields *fields, const struct bh_json *value, void *target,
    struct bh_issues *issues);

/**
 * bh_fields_read_at(fields, value, at, target, issues):
 * The same for an object inside the document, whose pointer is ${at}.
 */
void bh_fields_read_at(const struct bh_fields *fields, const struct bh_json *value, const char *at,
    void *target, struct bh_issues *issues);

/**
 * bh_fields_take(fields, value, target):
 * The same for one object of a list that was checked before.
 */
void bh_fields_take(const struct bh_fields *fields, const struct bh_json *value, void *target);

#endif
