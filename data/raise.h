/*
 * The SQLSTATE class TN (core/tbl/errors.def), and how the extension raises it.
 * None of these returns.
 */
#ifndef BH_DATA_RAISE_H
#define BH_DATA_RAISE_H

#include "postgres.h"

#define BH_TN_UNBOUND MAKE_SQLSTATE('T', 'N', '0', '0', '1')
#define BH_TN_REFUSED MAKE_SQLSTATE('T', 'N', '0', '0', '2')
#define BH_TN_NOT_ACTIVE MAKE_SQLSTATE('T', 'N', '0', '0', '3')
#define BH_TN_MOVED MAKE_SQLSTATE('T', 'N', '0', '0', '4')
#define BH_TN_STATEMENT MAKE_SQLSTATE('T', 'N', '0', '0', '5')
#define BH_TN_ENTER MAKE_SQLSTATE('T', 'N', '0', '0', '6')
#define BH_TN_OVER MAKE_SQLSTATE('T', 'N', '0', '0', '7')

/** bh_raise_unbound(): TN001, with the hint to call enter(). */
_Noreturn void bh_raise_unbound(void);

/** bh_raise_refused(why, hint): TN002 "token refused: ${why}"; ${hint} may be NULL. */
_Noreturn void bh_raise_refused(const char *why, const char *hint);

/** bh_raise_statement(what): TN005 "${what} is not allowed while a tenant is bound". */
_Noreturn void bh_raise_statement(const char *what);

/** bh_raise_limit(name): TN005 "${name} above the tenant's limit is not allowed". */
_Noreturn void bh_raise_limit(const char *name);

/** bh_raise_enter(why): TN006 "tenant cannot be bound here: ${why}". */
_Noreturn void bh_raise_enter(const char *why);

/** bh_raise_share(limit, retry_ms): TN007 "tenant is over its limit ${limit}", retry after
 * ${retry_ms}. */
_Noreturn void bh_raise_share(const char *limit, int retry_ms);

#endif
