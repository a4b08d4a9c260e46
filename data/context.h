/*
 * The tenant that a transaction is bound to: enter() or the tenant's own login
 * binds, the end of the transaction unbinds, nothing in between can.
 */
#ifndef BH_DATA_CONTEXT_H
#define BH_DATA_CONTEXT_H

#include "postgres.h"

#include "core/str.h"
#include "data/tenant_table.h"

/* What a transaction is bound by; all is borrowed. */
struct bh_binding {
    const struct bh_tenant_row *row;
    uint64 generation; /* of the tenant table before ${row} was read */
    Oid role;          /* of the tenant */
    struct bh_str subject;
    bool anonymous; /* it may only read */
    bool login;     /* by the tenant's own login */
};

/** bh_context_register(): watch the ends of transactions; once, at load. */
void bh_context_register(void);

/**
 * bh_context_bind(by):
 * Bind this transaction.  In a shared database, and for every token, the tenant's
 * role, search_path and limits hold until its end.  A tenant's own login in its
 * own database keeps user and settings; limits are the highest values there.
 */
void bh_context_bind(const struct bh_binding *by);

/** bh_context_check_state(row): raises TN003 or TN004 where ${row} is not active. */
void bh_context_check_state(const struct bh_tenant_row *row);

/**
 * bh_context_role(name):
 * Role ${name}, which is to act for a tenant.  Raises TN003 where it is missing,
 * TN006 where it can do more than a tenant may.
 */
Oid bh_context_role(const NameData *name);

/** bh_context_bound(): is this transaction bound?  False in workers: their leader has checked. */
bool bh_context_bound(void);

/** bh_context_tenant(): number of the tenant that this transaction is bound to; 0: none. */
int32 bh_context_tenant(void);

/** bh_context_mode(): its mode, in a worker that of its leader's; BH_MODE_NONE where no tenant is
 * bound. */
enum bh_mode bh_context_mode(void);

/** bh_context_login(): was it bound by the tenant's own login, not by a token? */
bool bh_context_login(void);

/**
 * bh_context_subject():
 * Who of the tenant acts: `sub` of the token, or the name of the tenant's own
 * login; "" where no tenant is bound.
 */
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

#endif
