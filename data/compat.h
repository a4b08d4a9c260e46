/*
 * Where PostgreSQL's versions differ, and the only file that asks which one it
 * is: the rest of data/ uses the names below.  What changed when, and where it
 * is taken into account: ARCHITECTURE.md, "Versions of PostgreSQL".
 */
#ifndef BH_DATA_COMPAT_H
#define BH_DATA_COMPAT_H

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/guc_tables.h"
#include "utils/relcache.h"

#if PG_VERSION_NUM < 150000
#error                                                                                             \
    "Bulkhead needs PostgreSQL 15 or newer: 14 has no shmem_request_hook and no reserved setting prefixes, and is out of support"
#elif PG_VERSION_NUM >= 190000
#error                                                                                             \
    "Bulkhead does not know this PostgreSQL yet: go through the table in ARCHITECTURE.md before raising this bound"
#endif

#if PG_VERSION_NUM >= 160000
#include "nodes/queryjumble.h"
#include "varatt.h"
#else
#include "utils/queryjumble.h"
#endif

#if PG_VERSION_NUM >= 170000
#include "storage/procnumber.h"
/* Numbers of backends from 1, as before 17: 0 is nobody. */
#define BH_BACKEND_SELF (MyProcNumber + 1)
#define BH_BACKEND_LEADER (ParallelLeaderProcNumber + 1)
/* Number of this session's current transaction, which no other of this session has. */
#define BH_TRANSACTION (MyProc->vxid.lxid)
#else
#include "storage/backendid.h"
#define BH_BACKEND_SELF MyBackendId
#define BH_BACKEND_LEADER ParallelLeaderBackendId
#define BH_TRANSACTION (MyProc->lxid)
#endif

/**
 * BH_ONCE_PARAM, BH_ONCE_ARG, BH_ONCE:
 * What ExecutorRun() has after its count: in the parameters, in a call, and as a
 * value.  From 18 on nobody tells whether a portal may go on: it may.
 */
#if PG_VERSION_NUM >= 180000
#define BH_ONCE_PARAM
#define BH_ONCE_ARG
#define BH_ONCE false
#else
#define BH_ONCE_PARAM , bool once
#define BH_ONCE_ARG , once
#define BH_ONCE once
#endif

/**
 * bh_compat_settings(ret_count):
 * All settings.  The list is the server's own up to 15 and from 16 on one in the
 * current memory context, which is not freed earlier; the settings stay where
 * they are as long as the process lives.
 */
static inline struct config_generic **
bh_compat_settings(int *ret_count)
{
#if PG_VERSION_NUM >= 160000
    return get_guc_variables(ret_count);
#else
    *ret_count = GetNumConfigOptions();
    return get_guc_variables();
#endif
}

/** bh_compat_holds(tag, mode): does this backend hold this lock in this very mode? */
static inline bool
bh_compat_holds(const LOCKTAG *tag, LOCKMODE mode)
{
#if PG_VERSION_NUM >= 170000
    return LockHeldByMe(tag, mode, false);
#else
    return LockHeldByMe(tag, mode);
#endif
}

/** bh_compat_primary_key(table): the index of its primary key that is not deferrable. */
static inline Oid
bh_compat_primary_key(Relation table)
{
#if PG_VERSION_NUM >= 180000
    return RelationGetPrimaryKeyIndex(table, false);
#else
    return RelationGetPrimaryKeyIndex(table);
#endif
}

/** bh_compat_length(value): bytes of a text or bytea without its header; 16's macro warns. */
static inline size_t
bh_compat_length(const void *value)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"
    return (size_t)VARSIZE_ANY_EXHDR(value);
#pragma GCC diagnostic pop
}

/**
 * bh_compat_any_lock(partition, wanted):
 * Is there a lock of this backend in ${partition} (LW_SHARED by the caller) that is ${wanted}?
 */
static inline bool
bh_compat_any_lock(int partition, bool (*wanted)(const PROCLOCK *held))
{
#if PG_VERSION_NUM >= 160000
    dlist_iter it;

    dlist_foreach(it, &MyProc->myProcLocks[partition]) if (wanted(dlist_container(PROCLOCK,
                                                               procLink, it.cur))) return true;
#else
    SHM_QUEUE *all = &MyProc->myProcLocks[partition];

    for (PROCLOCK *it = (PROCLOCK *)SHMQueueNext(all, all, offsetof(PROCLOCK, procLink));
         it != NULL;
         it = (PROCLOCK *)SHMQueueNext(all, &it->procLink, offsetof(PROCLOCK, procLink)))
        if (wanted(it))
            return true;
#endif
    return false;
}

/**
 * What ExecutorCheckPerms_hook is given: BH_PERMS_PARAM and BH_PERMS_ARG between
 * the range table and the flag, and the entries whose rights are asked for, each
 * with relid, requiredPerms and checkAsUser.
 */
#if PG_VERSION_NUM >= 160000
#define BH_PERMS_PARAM , List *asked
#define BH_PERMS_ARG , asked
#define BH_PERMS_ENTRIES(table) asked
#define BH_PERMS_ENTRY RTEPermissionInfo
#define BH_PERMS_OF_RELATION(entry) true
#else
#define BH_PERMS_PARAM
#define BH_PERMS_ARG
#define BH_PERMS_ENTRIES(table) table
#define BH_PERMS_ENTRY RangeTblEntry
#define BH_PERMS_OF_RELATION(entry) ((entry)->rtekind == RTE_RELATION)
#endif

#endif
