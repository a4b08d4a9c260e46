/*
 * The extension `bulkhead`: a transaction sees one tenant's data because a
 * signed token said so, and for no other reason.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"

#include "data/audit.h"
#include "data/constant.h"
#include "data/context.h"
#include "data/enforce.h"
#include "data/guard.h"
#include "data/label.h"
#include "data/log.h"
#include "data/login.h"
#include "data/meter_hook.h"
#include "data/ring.h"
#include "data/rows.h"
#include "data/settings.h"
#include "data/slot.h"
#include "data/tenant_table.h"
#include "data/usage.h"

#pragma GCC visibility push(default)
PG_MODULE_MAGIC;
void _PG_init(void);
#pragma GCC visibility pop

static shmem_request_hook_type next_shmem_request;
static shmem_startup_hook_type next_shmem_startup;

static void
request_memory(void)
{
    if (next_shmem_request)
        next_shmem_request();
    bh_tenant_table_request();
    bh_slot_request();
    bh_ring_request();
    bh_usage_request();
    bh_enforce_request();
}

static void
start_memory(void)
{
    if (next_shmem_startup)
        next_shmem_startup();
    bh_tenant_table_startup();
    bh_slot_startup();
    bh_ring_startup();
    bh_usage_startup();
    bh_enforce_startup();
}

void
_PG_init(void)
{
    if (!process_shared_preload_libraries_in_progress)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                           errmsg("bulkhead must be loaded by shared_preload_libraries"),
                           errhint("Add bulkhead to shared_preload_libraries and restart.")));
    bh_settings_define();
    bh_constant_register();
    next_shmem_request = shmem_request_hook;
    shmem_request_hook = request_memory;
    next_shmem_startup = shmem_startup_hook;
    shmem_startup_hook = start_memory;
    bh_tenant_table_register();
    bh_context_register();
    bh_login_register();
    bh_meter_hook_install(); /* before the guard, whose hooks then run first */
    bh_guard_install();
    bh_rows_install();
    bh_label_register();
    bh_log_install();
    bh_audit_install();
}
