#include "postgres.h"

#include "tcop/tcopprot.h"

#include "data/actor.h"
#include "data/log_limit.h"
#include "data/ring.h"
#include "data/settings.h"

#define LONGEST ((size_t)64 * 1024)

/*
 * A tenant can write such a message as often as it likes: also RAISE LOG, and the
 * trees of debug_print_plan and its kin. FATAL ends its connection.
 */
static bool
is_tenants(const ErrorData *error)
{
    const char *from = error->funcname != NULL ? error->funcname : "";
    bool asked = strcmp(from, "exec_stmt_raise") == 0 || strcmp(from, "elog_node_display") == 0;

    return asked || (error->elevel >= INFO && error->elevel <= ERROR);
}

static size_t
length(const char *text)
{
    return text != NULL ? strlen(text) : 0;
}

static bool
too_long(const ErrorData *error)
{
    return length(error->message) + length(error->detail) + length(error->hint) +
               length(error->context) + length(error->internalquery) >
           LONGEST;
}

/* In the log only, not to the client. */
static void
say_suppressed(ErrorData *error, uint64 count)
{
    error->detail_log =
        psprintf("%s%s" UINT64_FORMAT " earlier messages of the same tenant are not in this log.",
            error->detail != NULL ? error->detail : "", error->detail != NULL ? " " : "", count);
}

void
bh_log_limit(ErrorData *error)
{
    struct bh_actor actor;
    uint64 suppressed;

    if (bh_log_rate == 0 || !error->output_to_server || !is_tenants(error))
        return;
    bh_actor_find(&actor);
    if (!actor.guarded)
        return;
    if (too_long(error))
        bh_ring_refuse(BH_RING_LOG, bh_actor_key(&actor));
    if (too_long(error) || !bh_ring_admit(BH_RING_LOG, bh_actor_key(&actor), &suppressed)) {
        error->output_to_server = false;
        return;
    }
    if (suppressed > 0)
        say_suppressed(error, suppressed);
    if (length(debug_query_string) > LONGEST)
        error->hide_stmt = true;
}
