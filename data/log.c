#include "postgres.h"

#include "parser/analyze.h"
#include "tcop/tcopprot.h"
#include "utils/backend_status.h"
#include "utils/elog.h"

#include "data/audit.h"
#include "data/compat.h"
#include "data/constant.h"
#include "data/log.h"
#include "data/log_limit.h"
#include "data/settings.h"

/* base64url of `{"alg":"HS256","kid":`, with which every tenant token begins. */
#define TOKEN_BEGINS "eyJhbGciOiJIUzI1NiIsImtpZCI6"
#define TOKEN_ALPHABET "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."

static emit_log_hook_type next_emit_log;
static post_parse_analyze_hook_type next_post_parse;

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
    bh_log_limit(error);
    /* elog.c made each of these with palloc, for this message alone. */
    bh_log_mask(error->message);
    bh_log_mask(error->detail);
    bh_log_mask(error->detail_log);
    bh_log_mask(error->hint);
    bh_log_mask(error->context);
    bh_log_mask(error->internalquery);
    if (debug_query_string != NULL && strstr(debug_query_string, TOKEN_BEGINS) != NULL) {
        error->hide_stmt = true;
        /* debug_print_parse and its kin print a literal's bytes as numbers, or broken over lines.
         */
        if (error->detail != NULL && (strstr(error->detail, ":commandType") != NULL ||
                                         strstr(error->detail, ":constvalue") != NULL))
            error->detail = NULL;
    }
    if (next_emit_log)
        next_emit_log(error);
}

/* ---- literal tokens ---- */

static void
hide_activity(void)
{
    char *text;

    if (MyBEEntry == NULL || strstr(MyBEEntry->st_activity_raw, TOKEN_BEGINS) == NULL)
        return;
    text = pstrdup(MyBEEntry->st_activity_raw);
    bh_log_mask(text);
    pgstat_report_activity(STATE_RUNNING, text);
    pfree(text);
}

void
bh_log_hide_activity(void)
{
    if (bh_literal_token)
        hide_activity();
}

/* Without an id a statement is not counted: pg_stat_statements would keep its text. */
static void
post_parse(ParseState *pstate, Query *query, JumbleState *jumble)
{
    if (query->commandType == CMD_SELECT && bh_constant_literal_token(query)) {
        hide_activity();
        query->queryId = 0;
        if (jumble != NULL)
            jumble->clocations_count = 0;
        jumble = NULL;
    }
    if (next_post_parse)
        next_post_parse(pstate, query, jumble);
}

void
bh_log_install(void)
{
    next_post_parse = post_parse_analyze_hook;
    post_parse_analyze_hook = post_parse;
    next_emit_log = emit_log_hook;
    emit_log_hook = emit_log;
}
