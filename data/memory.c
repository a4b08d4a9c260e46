#include "postgres.h"

#include <limits.h>
#include <sys/resource.h>

#include "utils/guc.h"

#include "data/memory.h"

static int session_memory_kb;
static int applied_kb;

void
bh_memory_define(void)
{
    DefineCustomIntVariable("bulkhead.session_memory",
        "Memory of its own that a session of a shared database may have; 0: no limit.",
        "work_mem bounds sorts and hashes, but no aggregate, no value and no plan.",
        &session_memory_kb, 1024 * 1024, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
}

/*
 * Without it one SELECT array_agg(repeat(…)) takes what the machine has; the kernel
 * kills the backend, and PostgreSQL then restarts all of them.  RLIMIT_DATA counts
 * private memory only: shared buffers are not in it.
 */
void
bh_memory_limit(void)
{
    struct rlimit limit;

    if (session_memory_kb == applied_kb || getrlimit(RLIMIT_DATA, &limit) != 0)
        return;
    limit.rlim_cur = session_memory_kb == 0 ? limit.rlim_max : (rlim_t)session_memory_kb * 1024;
    if (limit.rlim_max != RLIM_INFINITY && limit.rlim_cur > limit.rlim_max)
        limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_DATA, &limit) != 0)
        ereport(WARNING, (errmsg("could not limit the memory of this session: %m")));
    applied_kb = session_memory_kb;
}
