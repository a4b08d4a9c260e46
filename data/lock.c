#include "postgres.h"

#include "fmgr.h"
#include "storage/lock.h"

#include "data/compat.h"
#include "data/context.h"
#include "data/limit.h"
#include "data/lock.h"
#include "data/raise.h"

/* In the field where PostgreSQL's own advisory locks have 1 or 2. */
#define LOCK_CLASS 0xB0

static int taken; /* by this transaction; one that a savepoint gave back counts */

/*
 * The tenant stands where PostgreSQL's own locks have the database: no two
 * tenants of a server meet, and the class keeps them apart from everybody else.
 */
static void
make_tag(LOCKTAG *tag, int64 key)
{
    int32 no = bh_context_tenant();

    if (no == 0)
        bh_raise_unbound();
    SET_LOCKTAG_ADVISORY(
        *tag, (uint32)no, (uint32)((uint64)key >> 32), (uint32)(uint64)key, LOCK_CLASS);
}

/* Shared lock memory is everybody's: a tenant has a share of it. */
static bool
take(int64 key, bool wait)
{
    LOCKTAG tag;
    LockAcquireResult result;

    make_tag(&tag, key);
    if (taken >= bh_limits_count(BH_LIMIT_MAX_LOCKS) && !bh_compat_holds(&tag, ExclusiveLock))
        bh_raise_limit("max_locks");
    result = LockAcquire(&tag, ExclusiveLock, false, !wait);
    taken += result == LOCKACQUIRE_OK;
    return result != LOCKACQUIRE_NOT_AVAIL;
}

void
bh_lock_end(void)
{
    taken = 0;
}

#pragma GCC visibility push(default)
PG_FUNCTION_INFO_V1(bh_lock);
PG_FUNCTION_INFO_V1(bh_try_lock);
#pragma GCC visibility pop

Datum
bh_lock(PG_FUNCTION_ARGS)
{
    take(PG_GETARG_INT64(0), true);
    PG_RETURN_VOID();
}

Datum
bh_try_lock(PG_FUNCTION_ARGS)
{
    PG_RETURN_BOOL(take(PG_GETARG_INT64(0), false));
}
