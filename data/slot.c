#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "port/atomics.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "data/compat.h"
#include "data/slot.h"

#define LOOK_EVERY_MS 5
#define AFTER_END_MS 1000

struct slot {
    pg_atomic_uint32 no; /* 0: not bound; written last */
    uint32 epoch;
    Oid database;
    int pid;
    enum bh_mode mode;
    char id[BH_TENANT_ID_MAX + 1];
    char subject[BH_TOKEN_SUB_MAX + 1];
};

static struct slot *slots; /* by backend id, 1 to MaxBackends */

void
bh_slot_request(void)
{
    RequestAddinShmemSpace(mul_size((Size)MaxBackends + 1, sizeof(struct slot)));
}

void
bh_slot_startup(void)
{
    bool found;

    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    slots = ShmemInitStruct(
        "bulkhead slots", mul_size((Size)MaxBackends + 1, sizeof(struct slot)), &found);
    for (int i = 0; !found && i <= MaxBackends; i++) {
        memset(&slots[i], 0, sizeof(slots[i]));
        pg_atomic_init_u32(&slots[i].no, 0);
    }
    LWLockRelease(AddinShmemInitLock);
}

void
bh_slot_publish(int32 no, uint32 epoch, struct bh_str id)
{
    struct slot *slot = &slots[BH_BACKEND_SELF];

    slot->epoch = epoch;
    slot->database = MyDatabaseId;
    slot->pid = MyProcPid;
    memcpy(slot->id, id.data, id.len);
    slot->id[id.len] = '\0';
    slot->subject[0] = '\0';
    slot->mode = BH_MODE_NONE;
    pg_write_barrier();
    pg_atomic_write_u32(&slot->no, (uint32)no);
    pg_memory_barrier();
}

void
bh_slot_publish_subject(struct bh_str subject)
{
    struct slot *slot = &slots[BH_BACKEND_SELF];
    size_t len = Min(subject.len, BH_TOKEN_SUB_MAX);

    memcpy(slot->subject, subject.data, len);
    slot->subject[len] = '\0';
}

void
bh_slot_publish_mode(enum bh_mode mode)
{
    slots[BH_BACKEND_SELF].mode = mode;
}

void
bh_slot_clear(void)
{
    if (slots != NULL && BH_BACKEND_SELF >= 1)
        pg_atomic_write_u32(&slots[BH_BACKEND_SELF].no, 0);
}

int32
bh_slot_read(int backend, const char **ret_id)
{
    *ret_id = slots[backend].id;
    return (int32)pg_atomic_read_u32(&slots[backend].no);
}

enum bh_mode
bh_slot_mode(int backend)
{
    if (backend < 1 || pg_atomic_read_u32(&slots[backend].no) == 0)
        return BH_MODE_NONE;
    return slots[backend].mode;
}

const char *
bh_slot_subject(int backend)
{
    return slots[backend].subject;
}

/* ---- the fence ---- */

/* Is the slot bound to the tenant by an older epoch?  Its pid then. */
static int
older(struct slot *slot, int32 no, uint32 epoch)
{
    int pid;

    if (pg_atomic_read_u32(&slot->no) != (uint32)no)
        return 0;
    pg_read_barrier();
    if (slot->database != MyDatabaseId || slot->epoch >= epoch)
        return 0;
    pid = slot->pid;
    pg_read_barrier();
    return pg_atomic_read_u32(&slot->no) == (uint32)no ? pid : 0;
}

/* How many there are; with ${end}, their connections are told to end. */
static int
count_older(int32 no, uint32 epoch, bool end)
{
    int count = 0;

    for (int i = 1; i <= MaxBackends; i++) {
        int pid = older(&slots[i], no, epoch);

        if (pid == 0)
            continue;
        count++;
        /* Not a cancel: a transaction could catch that and go on. */
        if (end && kill(pid, SIGTERM) != 0)
            ereport(LOG, (errmsg("could not end process %d: %m", pid)));
    }
    return count;
}

static bool
wait_older(int32 no, uint32 epoch, int64 wait_ms, bool end)
{
    TimestampTz until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), wait_ms);

    while (count_older(no, epoch, end) > 0) {
        if (GetCurrentTimestamp() >= until)
            return false;
        end = false; /* once is enough */
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, LOOK_EVERY_MS,
            PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
        CHECK_FOR_INTERRUPTS();
    }
    return true;
}

bool
bh_slot_wait(int32 no, uint32 epoch, int64 wait_ms)
{
    pg_memory_barrier();
    return wait_older(no, epoch, wait_ms, false) ||
           wait_older(no, epoch, Max(wait_ms, AFTER_END_MS), true);
}
