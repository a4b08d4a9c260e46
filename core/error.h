/*
 * One error for every layer.
 *
 * A function that can fail returns `enum bh_code`, is marked BH_MUSTCHECK and
 * takes `struct bh_error *err` last.  Results come through `ret_` parameters,
 * written only on success.  core/tbl/errors.def holds every code once, so the
 * edge, the API, the command line and the database answer alike.
 */
#ifndef BH_CORE_ERROR_H
#define BH_CORE_ERROR_H

#include <stdarg.h>
#include <stddef.h>

#define BH_MUSTCHECK __attribute__((warn_unused_result))
#define BH_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))

enum bh_code {
    BH_OK = 0,
#define BH_ERROR(name, slug, http, exit_code, sqlstate, title) BH_E_##name,
#include "core/tbl/errors.def"
#undef BH_ERROR
    BH_CODE_COUNT
};

#define BH_DETAIL_MAX 512
#define BH_HINT_MAX 256
#define BH_POINTER_MAX 128

/*
 * What went wrong.  ${detail} says what happened and where, ${hint} names the
 * one next step (may be empty), ${pointer} is the RFC 6901 place in the input
 * (may be empty; "?name" for a query parameter).  All are NUL-terminated UTF-8
 * and never hold a secret.
 */
struct bh_error {
    enum bh_code code;
    char detail[BH_DETAIL_MAX];
    char hint[BH_HINT_MAX];
    char pointer[BH_POINTER_MAX];
};

/**
 * bh_fail(err, code, fmt, ...):
 * Record ${code} and a detail built from ${fmt} in ${err} (which may be NULL),
 * clear hint and pointer, and return ${code}.  Cuts what does not fit.
 */
enum bh_code bh_fail(struct bh_error *err, enum bh_code code, const char *fmt, ...) BH_PRINTF(3, 4);

/**
 * bh_fail_at(err, code, pointer, fmt, ...):
 * The same, for input that is wrong at ${pointer}.
 */
enum bh_code bh_fail_at(struct bh_error *err, enum bh_code code, const char *pointer,
    const char *fmt, ...) BH_PRINTF(4, 5);

/**
 * bh_hint(err, fmt, ...):
 * Give ${err} (which may be NULL) a hint.  Returns the code already in ${err},
 * so that `return bh_hint(err, ...)` passes the failure on; BH_E_INTERNAL when
 * ${err} is NULL.
 */
enum bh_code bh_hint(struct bh_error *err, const char *fmt, ...) BH_PRINTF(2, 3);

#ifdef __clang_analyzer__
/* The analyzer sees one file at a time: tell it that what these return is never BH_OK. */
#define bh_fail(err, code, ...) ((void)bh_fail((err), (code), __VA_ARGS__), (code))
#define bh_fail_at(err, code, ...) ((void)bh_fail_at((err), (code), __VA_ARGS__), (code))
#define bh_hint(err, ...) ((void)bh_hint((err), __VA_ARGS__), BH_E_INTERNAL)
#endif

/* Facts of a code, from core/tbl/errors.def.  Never NULL; BH_OK gives 200, 0. */
int bh_code_http(enum bh_code code);             /* HTTP status */
int bh_code_exit(enum bh_code code);             /* exit code of the CLI */
const char *bh_code_slug(enum bh_code code);     /* "rate-limited" */
const char *bh_code_sqlstate(enum bh_code code); /* "TN001"; "XX000" where none */
const char *bh_code_title(enum bh_code code);    /* "Rate limit exceeded" */

/**
 * bh_code_find(slug):
 * Return the code whose slug is ${slug}, or BH_E_INTERNAL where there is none.
 */
enum bh_code bh_code_find(const char *slug);

/* Pass a failure on: returns from the caller when ${call} is not BH_OK. */
#define BH_TRY(call)                                                                               \
    do {                                                                                           \
        enum bh_code bh_try_code_ = (call);                                                        \
        if (bh_try_code_ != BH_OK)                                                                 \
            return bh_try_code_;                                                                   \
    } while (0)

#endif
