/* bulkhead.fence(): after it, nothing that began under an older epoch can write for the tenant. */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "utils/timestamp.h"

#include "data/slot.h"

#define WAIT_MAX_MS ((int64)3600 * 1000)

/* The epoch of tenant ${no}, its row locked. */
static int32
lock_epoch(int32 no)
{
    Oid types[] = {INT4OID};
    Datum values[] = {Int32GetDatum(no)};
    bool isnull;

    if (SPI_execute_with_args("SELECT epoch FROM bulkhead.tenant"
                              " WHERE no OPERATOR(pg_catalog.=) $1 FOR UPDATE",
            1, types, values, NULL, false, 1) != SPI_OK_SELECT)
        elog(ERROR, "bulkhead.tenant cannot be read");
    if (SPI_processed == 0)
        ereport(
            ERROR, (errcode(ERRCODE_NO_DATA_FOUND), errmsg("tenant %d is not in this database", no),
                       errhint("Fence it where bulkhead.tenant has its row.")));
    return DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

static void
raise_epoch(int32 no, int32 epoch)
{
    Oid types[] = {INT4OID, INT4OID};
    Datum values[] = {Int32GetDatum(no), Int32GetDatum(epoch)};
    int32 stored = lock_epoch(no);

    if (stored > epoch)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                           errmsg("tenant %d has epoch %d already", no, stored),
                           errhint("An epoch never falls; read bulkhead.tenant again.")));
    if (stored < epoch && SPI_execute_with_args("UPDATE bulkhead.tenant SET epoch = $2"
                                                " WHERE no OPERATOR(pg_catalog.=) $1",
                              2, types, values, NULL, false, 0) != SPI_OK_UPDATE)
        elog(ERROR, "bulkhead.tenant cannot be written");
}

static int64
milliseconds(const Interval *interval)
{
    double ms = (double)interval->time / 1000.0 +
                (interval->day + interval->month * (double)DAYS_PER_MONTH) * SECS_PER_DAY * 1000.0;

    if (!(ms >= 0 && ms <= WAIT_MAX_MS))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                           errmsg("the deadline must lie between 0 and one hour")));
    return (int64)ms;
}

#pragma GCC visibility push(default)
PG_FUNCTION_INFO_V1(bh_fence);
#pragma GCC visibility pop

/* A procedure, because the row must be committed before the wait: a restart keeps the fence. */
Datum
bh_fence(PG_FUNCTION_ARGS)
{
    int32 no;
    int32 epoch;
    int64 wait_ms;

    if (PG_ARGISNULL(0) || PG_ARGISNULL(1) || PG_ARGISNULL(2))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
                           errmsg("bulkhead.fence() needs a number, an epoch and a deadline")));
    if (fcinfo->context == NULL || !IsA(fcinfo->context, CallContext) ||
        ((CallContext *)fcinfo->context)->atomic)
        ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
                           errmsg("bulkhead.fence() commits its epoch"),
                           errhint("CALL it outside a transaction block.")));
    no = PG_GETARG_INT32(0);
    epoch = PG_GETARG_INT32(1);
    wait_ms = milliseconds(PG_GETARG_INTERVAL_P(2));
    if (SPI_connect_ext(SPI_OPT_NONATOMIC) != SPI_OK_CONNECT)
        elog(ERROR, "SPI_connect failed");
    raise_epoch(no, epoch);
    SPI_commit();
    SPI_finish();
    if (!bh_slot_wait(no, (uint32)epoch, wait_ms))
        ereport(
            ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
                       errmsg("tenant %d still has transactions of an older epoch", no),
                       errdetail("The epoch is committed, their connections were told to end"
                                 " and did not."),
                       errhint("CALL it again; the server's processes may be stopped or stuck.")));
    PG_RETURN_VOID();
}
