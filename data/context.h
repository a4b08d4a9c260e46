/*
 * The tenant that a transaction is bound to: enter() binds, the end of the
 * transaction unbinds, nothing in between can.
 */
#ifndef BH_DATA_CONTEXT_H
#define BH_DATA_CONTEXT_H

#include "postgres.h"

#include "nodes/primnodes.h"

/** bh_context_register(): watch the ends of transactions; once, at load. */
void bh_context_register(void);

/** bh_context_bound(): is this transaction bound?  False in workers: their leader has checked. */
bool bh_context_bound(void);

/** bh_context_tenant(): number of the tenant that this transaction is bound to; 0: none. */
int32 bh_context_tenant(void);

/** bh_context_subject(): who of the tenant acts (`sub` of the token); "" where no tenant is bound. */
const char *bh_context_subject(void);

/** bh_context_anonymous(): is this transaction bound by a token of scope `anonymous`? */
bool bh_context_anonymous(void);

/**
 * bh_context_statement():
 * Called before each statement of a bound transaction, and before a portal goes
 * on.  Raises where the transaction is too old, the tenant's epoch is not that
 * of the token any more, or a limit is passed; makes the transaction read only
 * again where its scope is `anonymous`.
 */
void bh_context_statement(void);

/**
 * bh_context_function(funcid):
 * Called before a function is first called in a statement of a bound
 * transaction.  Raises TN005 where an `anonymous` scope may not call it, and as
 * bh_context_statement() does where the call is the statement (fast path).
 */
void bh_context_function(Oid funcid);

/**
 * bh_context_expect(call):
 * ${call} is the call of enter() that a client's own statement consists of (NULL:
 * it has none).  enter() refuses every other call, so no function, cursor or
 * expression of somebody else can bind.
 */
void bh_context_expect(const FuncExpr *call);

#endif
