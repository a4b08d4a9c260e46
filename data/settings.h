/* The extension's settings (GUCs), and which logins are pool roles. */
#ifndef BH_DATA_SETTINGS_H
#define BH_DATA_SETTINGS_H

#include "postgres.h"

enum bh_pooler {
    BH_POOLER_NONE, /* nobody tracks settings between clients: enter() restores PgBouncer's five */
    BH_POOLER_PGBOUNCER /* its own tracking does */
};

extern char *bh_server;            /* bulkhead.server: "main", the aud of tokens for this server */
extern char *bh_key_file;          /* bulkhead.key_file: path; empty = no token is accepted */
extern int bh_max_transaction_age; /* bulkhead.max_transaction_age, seconds */
extern int bh_max_tenants;         /* bulkhead.max_tenants: entries of the shared cache */
extern bool bh_metering;           /* bulkhead.metering: measure usage and hold shares */
extern int bh_usage_entries;       /* bulkhead.usage_entries: tenants metered in memory */
extern bool bh_literal_token;      /* bulkhead.literal_token, by role */
extern bool bh_discard_all;        /* bulkhead.discard_all, by role */
extern int bh_audit_entries;       /* bulkhead.audit_entries: of the audit ring */
extern int bh_audit_rate;          /* bulkhead.audit_rate: entries a second of one tenant */
extern int bh_audit_burst;         /* bulkhead.audit_burst: entries of one tenant at once */
extern int bh_log_rate;            /* bulkhead.log_rate: messages of a tenant a second, or 0 */
extern int bh_pooler;              /* bulkhead.pooler, by role: enum bh_pooler */

/** bh_settings_define(): declare them; once, at load. */
void bh_settings_define(void);

/**
 * bh_settings_pool_session():
 * Is the login of this session (not current_user) one of bulkhead.pool_roles?
 * Cheap: remembered until the list, a role or the session user changes.
 */
bool bh_settings_pool_session(void);

/** bh_settings_extension(name): does bulkhead.extensions name ${name}? */
bool bh_settings_extension(const char *name);

/** bh_settings_pool_role(name): is ${name} one of bulkhead.pool_roles? */
bool bh_settings_pool_role(const char *name);

#endif
