/*
 * A tenant's own logins: the role of its row in bulkhead.tenant, and those in
 * bulkhead.login.  No token is needed: who authenticated is who acts.  Pool roles
 * and superusers are nobody's.
 */
#ifndef BH_DATA_LOGIN_H
#define BH_DATA_LOGIN_H

#include "postgres.h"

/** bh_login_register(): prepare sessions of such logins when they start; once, at load. */
void bh_login_register(void);

/**
 * bh_login_bind():
 * Called before each statement that is more than transaction control.  Where this
 * session's login is a tenant's and the transaction is not bound, binds it.
 * Raises TN003 or TN004 where the tenant is not active; FATAL where the login was
 * a tenant's and is not any more.  Cheap for everybody else.
 */
void bh_login_bind(void);

/**
 * bh_login_tenant():
 * Number of the tenant whose login this session's is, as last looked up; 0: nobody's.
 * Looks nothing up, so it may be called after an error too.
 */
int32 bh_login_tenant(void);

#endif
