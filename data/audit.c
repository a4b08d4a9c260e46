#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "parser/analyze.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "data/actor.h"
#include "data/audit.h"
#include "data/context.h"
#include "data/fingerprint.h"
#include "data/log.h"
#include "data/raise.h"
#include "data/ring.h"

/* A setting's check hook of ours hands over its message ready made; these are what it is made with.
 */
static const char *const made[] = {
    "%s above the tenant's limit is not allowed", "%s is not allowed while a tenant is bound"};

static post_parse_analyze_hook_type next_post_parse_analyze;
static MemoryContext scratch; /* made at load, so that an error needs no new one */

/* What became of an error. */
enum verdict { NO_ATTEMPT, RECORDED, SUPPRESSED };

/* In ErrorData.detail_log, which survives a re-throw and is shown to no client: the verdict. */
static const char *const marks[] = {
    [RECORDED] = "bulkhead: recorded", [SUPPRESSED] = "bulkhead: suppressed"};

/* ---- which errors ---- */

enum whose {
    ANYBODY,   /* the extension refused it */
    GUARDED,   /* a bound transaction or a pool role */
    SHARED,    /* a transaction bound to a tenant of a shared database */
    ANONYMOUS, /* one of scope `anonymous` */
};

struct kind {
    int sqlstate;
    enum whose whose;
};

static const struct kind kinds[] = {
    {BH_TN_UNBOUND, ANYBODY},
    {BH_TN_REFUSED, ANYBODY},
    {BH_TN_NOT_ACTIVE, ANYBODY},
    {BH_TN_STATEMENT, ANYBODY},
    {BH_TN_ENTER, ANYBODY},
    {ERRCODE_INSUFFICIENT_PRIVILEGE, GUARDED},
    {ERRCODE_INVALID_TRANSACTION_TERMINATION, SHARED},
    {ERRCODE_READ_ONLY_SQL_TRANSACTION, ANONYMOUS},
};

static const struct kind *
kind_of(int sqlstate)
{
    for (size_t i = 0; i < lengthof(kinds); i++)
        if (kinds[i].sqlstate == sqlstate)
            return &kinds[i];
    return NULL;
}

static bool
concerns(const struct kind *kind, const struct bh_actor *actor)
{
    switch (kind->whose) {
    case ANYBODY:
        return true;
    case GUARDED:
        return actor->guarded;
    case SHARED:
        return actor->no != 0 && !bh_mode_own(bh_context_mode());
    case ANONYMOUS:
        return actor->no != 0 && bh_context_anonymous();
    }
    return false;
}

/* RAISE of an application, or what a parallel worker has recorded and its leader raises again. */
static bool
is_repeated(const ErrorData *error)
{
    return error->message_id == NULL ||
           (error->funcname != NULL && strcmp(error->funcname, "exec_stmt_raise") == 0);
}

/* ---- the entry ---- */

static void
read_refusal(const ErrorData *error, struct bh_refusal *ret_refusal)
{
    const char *text = error->message != NULL ? error->message : "";
    const char *id = error->message_id;
    const char *format;

    if (error->sqlerrcode == BH_TN_STATEMENT && strcmp(id, "%s") == 0)
        id = strstr(text, "limit") != NULL ? made[0] : made[1];
#ifdef ENABLE_NLS
    format = error->domain != NULL ? dgettext(error->domain, id) : id;
#else
    format = id;
#endif
    bh_refusal_read(id, format, text, ret_refusal);
    bh_log_mask(ret_refusal->object);
}

static void
write_entry(const ErrorData *error, const struct bh_actor *actor, uint64 suppressed)
{
    struct bh_ring_entry entry = {.at = GetCurrentTimestamp(),
        .suppressed = suppressed,
        .no = actor->no,
        .sqlstate = error->sqlerrcode,
        .database = MyDatabaseId};

    if (debug_query_string != NULL && debug_query_string[0] != '\0') {
        entry.statement = true;
        entry.fingerprint = bh_fingerprint(
            (struct bh_str){debug_query_string, strnlen(debug_query_string, BH_FINGERPRINT_MAX)});
    }
    strlcpy(entry.tenant, actor->tenant, sizeof(entry.tenant));
    strlcpy(entry.subject, actor->subject, sizeof(entry.subject));
    read_refusal(error, &entry.refusal);
    bh_ring_add(&entry);
}

/* Record ${error} if it is an attempt. */
static enum verdict
judge(const ErrorData *error)
{
    const struct kind *kind = kind_of(error->sqlerrcode);
    struct bh_actor actor;
    uint64 suppressed;

    if (error->elevel < ERROR || kind == NULL || is_repeated(error))
        return NO_ATTEMPT;
    bh_actor_find(&actor);
    if (!concerns(kind, &actor))
        return NO_ATTEMPT;
    if (!bh_ring_admit(BH_RING_AUDIT, bh_actor_key(&actor), &suppressed))
        return SUPPRESSED;
    write_entry(error, &actor, suppressed);
    return RECORDED;
}

/* ${error} is NULL for the one that is being raised: its copy may need memory too. */
static enum verdict
judge_aside(const ErrorData *error)
{
    MemoryContext caller;
    enum verdict verdict;

    MemoryContextReset(scratch);
    caller = MemoryContextSwitchTo(scratch);
    verdict = judge(error != NULL ? error : CopyErrorData());
    MemoryContextSwitchTo(caller);
    MemoryContextReset(scratch);
    return verdict;
}

/* ---- where errors pass ---- */

/* Of every report, down to NOTICE: most are none of ours. */
static void
passing(void *arg pg_attribute_unused())
{
    enum verdict verdict;

    if (kind_of(geterrcode()) == NULL)
        return;
    verdict = judge_aside(NULL);
    if (verdict != NO_ATTEMPT)
        errdetail_log("%s", marks[verdict]);
}

static ErrorContextCallback last_callback = {.callback = passing};

static void
watch(void)
{
    ErrorContextCallback **it = &error_context_stack;

    while (*it != NULL && *it != &last_callback)
        it = &(*it)->previous;
    *it = &last_callback;
}

static bool
marked(const ErrorData *error, enum verdict verdict)
{
    return error->detail_log != NULL && strcmp(error->detail_log, marks[verdict]) == 0;
}

void
bh_audit_logged(ErrorData *error)
{
    bool suppressed = marked(error, SUPPRESSED);

    if (suppressed || marked(error, RECORDED))
        error->detail_log = NULL;
    else if (kind_of(error->sqlerrcode) != NULL)
        suppressed = judge_aside(error) == SUPPRESSED;
    if (suppressed && error->elevel == ERROR)
        error->output_to_server = false;
}

static void
parsed(ParseState *state, Query *query, JumbleState *jumble)
{
    watch();
    if (next_post_parse_analyze)
        next_post_parse_analyze(state, query, jumble);
}

static void
subxact_begins(SubXactEvent event, SubTransactionId id pg_attribute_unused(),
    SubTransactionId parent pg_attribute_unused(), void *arg pg_attribute_unused())
{
    if (event == SUBXACT_EVENT_START_SUB)
        watch();
}

void
bh_audit_install(void)
{
    scratch = AllocSetContextCreate(TopMemoryContext, "bulkhead audit", ALLOCSET_SMALL_SIZES);
    next_post_parse_analyze = post_parse_analyze_hook;
    post_parse_analyze_hook = parsed;
    RegisterSubXactCallback(subxact_begins, NULL);
}
