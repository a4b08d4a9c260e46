/* bulkhead.audit_read() and bulkhead.audit_state(). */
#include "postgres.h"

#include <inttypes.h>

#include "commands/dbcommands.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "data/ring.h"

#define READ_COLUMNS 12
#define STATE_COLUMNS 4

#pragma GCC visibility push(default)
PG_FUNCTION_INFO_V1(bh_audit_read);
PG_FUNCTION_INFO_V1(bh_audit_state);
#pragma GCC visibility pop

/* One reading: from where to where, over all calls for rows. */
struct reading {
    int64 epoch;
    uint64 next;
    uint64 head;
    uint64 left; /* rows */
};

static TupleDesc
row_type(FunctionCallInfo fcinfo)
{
    TupleDesc type;

    if (get_call_result_type(fcinfo, NULL, &type) != TYPEFUNC_COMPOSITE)
        elog(ERROR, "bulkhead.audit_read() and audit_state() return rows");
    return BlessTupleDesc(type);
}

static Datum
database_name(Oid database)
{
    char *name = OidIsValid(database) ? get_database_name(database) : NULL;

    /* A database that was dropped has left its number. */
    return PointerGetDatum(cstring_to_text(name != NULL ? name : psprintf("%u", database)));
}

static Datum
fingerprint_text(const struct bh_ring_entry *entry)
{
    char text[17] = "";

    if (entry->statement)
        snprintf(text, sizeof(text), "%016" PRIx64, entry->fingerprint);
    return CStringGetTextDatum(text);
}

static Datum
row_of(TupleDesc type, int64 epoch, uint64 seq, const struct bh_ring_entry *entry)
{
    bool nulls[READ_COLUMNS] = {false};
    Datum values[READ_COLUMNS] = {
        Int64GetDatum(epoch),
        Int64GetDatum((int64)seq),
        TimestampTzGetDatum(entry->at),
        Int32GetDatum(entry->no),
        CStringGetTextDatum(entry->tenant),
        CStringGetTextDatum(entry->subject),
        database_name(entry->database),
        CStringGetTextDatum(entry->refusal.object),
        CStringGetTextDatum(unpack_sql_state(entry->sqlstate)),
        CStringGetTextDatum(entry->refusal.message),
        fingerprint_text(entry),
        Int64GetDatum((int64)entry->suppressed),
    };

    return HeapTupleGetDatum(heap_form_tuple(type, values, nulls));
}

static struct reading *
begin_reading(int64 after, int32 most)
{
    struct reading *reading = palloc(sizeof(*reading));
    struct bh_ring_state state;
    uint64 first;

    bh_ring_look(&state);
    first = after < 0 ? 1 : (uint64)after + 1;
    *reading = (struct reading){.epoch = state.epoch,
        .next = Max(first, state.oldest),
        .head = state.head,
        .left = most > 0 ? (uint64)most : 0};
    return reading;
}

Datum
bh_audit_read(PG_FUNCTION_ARGS)
{
    FuncCallContext *call;
    struct reading *reading;
    struct bh_ring_entry entry;

    if (SRF_IS_FIRSTCALL()) {
        MemoryContext caller;

        call = SRF_FIRSTCALL_INIT();
        caller = MemoryContextSwitchTo(call->multi_call_memory_ctx);
        call->tuple_desc = row_type(fcinfo);
        call->user_fctx = begin_reading(PG_GETARG_INT64(0), PG_GETARG_INT32(1));
        MemoryContextSwitchTo(caller);
    }
    call = SRF_PERCALL_SETUP();
    reading = call->user_fctx;
    while (reading->left > 0 && reading->next <= reading->head) {
        uint64 seq = reading->next++;

        if (!bh_ring_read(seq, &entry))
            continue;
        reading->left--;
        SRF_RETURN_NEXT(call, row_of(call->tuple_desc, reading->epoch, seq, &entry));
    }
    SRF_RETURN_DONE(call);
}

Datum
bh_audit_state(PG_FUNCTION_ARGS)
{
    bool nulls[STATE_COLUMNS] = {false};
    struct bh_ring_state state;

    bh_ring_look(&state);
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(row_type(fcinfo),
        (Datum[]){Int64GetDatum(state.epoch), Int64GetDatum((int64)state.head),
            Int64GetDatum((int64)state.oldest), Int64GetDatum((int64)state.suppressed)},
        nulls)));
}
