#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "data/age.h"
#include "data/raise.h"
#include "data/settings.h"

#define GRACE_MS 5000

static bool registered;
static TimeoutId timer;
static TimestampTz refuse_at; /* 0: nobody counts */

/* Runs inside a signal handler.  Not a cancel: a transaction could catch that and go on. */
static void
end_connection(void)
{
    ProcDiePending = true;
    InterruptPending = true;
}

static void
start_timer(void)
{
    enable_timeout_at(timer, TimestampTzPlusMilliseconds(refuse_at, GRACE_MS));
}

void
bh_age_begin(void)
{
    if (!registered) {
        timer = RegisterTimeout(USER_TIMEOUT, end_connection);
        registered = true;
    }
    refuse_at = TimestampTzPlusMilliseconds(
        GetCurrentTransactionStartTimestamp(), (int64)bh_max_transaction_age * 1000);
    start_timer();
}

void
bh_age_check(void)
{
    if (refuse_at == 0)
        return;
    if (GetCurrentTimestamp() > refuse_at)
        bh_raise_refused("its transaction is older than bulkhead.max_transaction_age",
            "Begin a new transaction; commit in smaller steps.");
    /* PostgreSQL stops every timer at an error; a transaction goes on from its savepoint. */
    if (!get_timeout_active(timer))
        start_timer();
}

void
bh_age_end(void)
{
    if (refuse_at != 0)
        disable_timeout(timer, false);
    refuse_at = 0;
}
