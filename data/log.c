#include "postgres.h"

#include "tcop/tcopprot.h"
#include "utils/elog.h"

#include "data/log.h"

/* base64url of `{"alg":"HS256","kid":`, with which every tenant token begins. */
#define TOKEN_BEGINS "eyJhbGciOiJIUzI1NiIsImtpZCI6"
#define TOKEN_ALPHABET "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."

static emit_log_hook_type next_emit_log;

/* Overwrite the tokens in ${text}; elog.c made it with palloc, for this message alone. */
static void
mask(char *text)
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
    mask(error->message);
    mask(error->detail);
    mask(error->detail_log);
    mask(error->hint);
    mask(error->context);
    mask(error->internalquery);
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
