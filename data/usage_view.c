/* bulkhead.usage and bulkhead.shares(): the sums and shares of all tenants, for superusers. */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "data/meter.h"
#include "data/settings.h"
#include "data/usage.h"

#define USAGE_COLUMNS 6
#define SHARE_COLUMNS 4

static const char *const slugs[BH_USAGE_COUNT] = {
#define BH_DATABASE_METER(name, slug, unit, description) [BH_USAGE_##name] = slug,
#include "core/tbl/meters.def"
#undef BH_DATABASE_METER
};

struct rows {
    ReturnSetInfo *result;
    Datum source;
    TimestampTz sampled_at;
    Datum slugs[BH_USAGE_COUNT];
};

/* The tables hold the whole server's tenants: no grant shows them to less than a superuser. */
static void
check_superuser(void)
{
    if (!superuser())
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                           errmsg("usage of all tenants is the superuser's to read")));
}

static void
put_usage(const struct bh_usage_record *record, void *arg)
{
    struct rows *rows = arg;
    bool nulls[USAGE_COLUMNS] = {false};

    for (int meter = 0; meter < BH_USAGE_COUNT; meter++) {
        uint64 value = record->values[meter];
        Datum values[USAGE_COLUMNS] = {rows->source, Int64GetDatum((int64)bh_usage_epoch()),
            TimestampTzGetDatum(rows->sampled_at), Int32GetDatum(record->no), rows->slugs[meter],
            Int64GetDatum((int64)(meter == BH_USAGE_DB_ACTIVE_US ? value / 1000 : value))};

        tuplestore_putvalues(rows->result->setResult, rows->result->setDesc, values, nulls);
    }
}

static void
put_share(int32 no, struct bh_share *share, void *arg)
{
    ReturnSetInfo *result = arg;
    bool nulls[SHARE_COLUMNS] = {false};
    int running;
    int waiting;
    int64 tokens;
    Datum values[SHARE_COLUMNS];

    bh_enforce_look(share, &running, &waiting, &tokens);
    values[0] = Int32GetDatum(no);
    values[1] = Int32GetDatum(running);
    values[2] = Int32GetDatum(waiting);
    values[3] = Int64GetDatum(tokens / BH_BUDGET_TOKENS_PER_MS);
    nulls[3] = share->rule.rate == 0;
    tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

#pragma GCC visibility push(default)
PG_FUNCTION_INFO_V1(bh_usage_read);
PG_FUNCTION_INFO_V1(bh_shares);
#pragma GCC visibility pop

Datum
bh_usage_read(PG_FUNCTION_ARGS)
{
    char source[NAMEDATALEN + 16];
    struct rows rows = {.sampled_at = GetCurrentTimestamp()};

    check_superuser();
    InitMaterializedSRF(fcinfo, 0);
    rows.result = (ReturnSetInfo *)fcinfo->resultinfo;
    snprintf(source, sizeof(source), "postgres-%s", bh_server);
    rows.source = PointerGetDatum(cstring_to_text(source));
    for (int meter = 0; meter < BH_USAGE_COUNT; meter++)
        rows.slugs[meter] = PointerGetDatum(cstring_to_text(slugs[meter]));
    bh_meter_flush();
    bh_usage_each(put_usage, &rows);
    return (Datum)0;
}

Datum
bh_shares(PG_FUNCTION_ARGS)
{
    check_superuser();
    InitMaterializedSRF(fcinfo, 0);
    bh_usage_each_share(put_share, fcinfo->resultinfo);
    return (Datum)0;
}
