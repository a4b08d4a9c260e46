#include "postgres.h"

#include "tcop/tcopprot.h"
#include "utils/elog.h"

#include "data/audit.h"
#include "data/log.h"

/* base64url of `{"alg":"HS256","kid":`, with which every tenant token begins. */
#define TOKEN_BEGINS "eyJhbGciOiJIUzI1NiIsImtpZCI6"
#define TOKEN_ALPHABET "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."

static emit_log_hook_type next_emit_log;

void
bh_log_mask(char *text)
{
    while (text != NULL && (text = strstr(text, TOKEN_BEGINS)) != NULL) {
        size_t len = strspn(text, TOKEN_ALPHABET);

        memset(text, '*', len);
        text += len;
    }
}

/*
 * log_statement, log_min_duration_statement, auto_explain and every error quote
 * the statement and its parameters: a token that is still good would be there.
 */
static void
emit_log(ErrorData *error)
{
    bh_audit_logged(error);
    /* elog.c made each of these with palloc, for this message alone. */
    bh_log_mask(error->message);
    bh_log_mask(error->detail);
    bh_log_mask(error->detail_log);
    bh_log_mask(error->hint);
    bh_log_mask(error->context);
    bh_log_mask(error->internalquery);
    if (debug_query_string != NULL && strstr(debug_query_string, TOKEN_BEGINS) != NULL)
        error->hide_stmt = true;
    if (next_emit_log)
        next_emit_log(error);
}

void
bh_log_install(void)
{
    next_emit_log = emit_log_hook;
    emit_log_hook = emit_log;
}
