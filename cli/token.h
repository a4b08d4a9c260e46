/* Asking the control plane for a token. */
#ifndef BH_CLI_TOKEN_H
#define BH_CLI_TOKEN_H

#include <jansson.h>

#include "cli/http.h"

/**
 * bh_token_ask(client, tenant, user, job, ttl_s, ret_answer, err):
 * `POST /v1/tokens`: {"token","expires_at"}, owned by the caller.  ${user} may
 * be NULL where ${job}; ${ttl_s} 0: the server's default.  BH_E_NOT_FOUND for
 * a tenant that is not there.
 */
enum bh_code bh_token_ask(struct bh_client *client, const char *tenant, const char *user, bool job,
    long ttl_s, json_t **ret_answer, struct bh_error *err) BH_MUSTCHECK;

#endif
