/*
 * The file behind the usage table: pg_stat_tmp/bulkhead_usage in the data
 * directory, which base backups leave out.  A header, then one record per
 * tenant at its number: the file is sparse.  The header says whether the server
 * was shut down cleanly; only then are the records whole and the file epoch
 * goes on.
 */
#ifndef BH_DATA_USAGE_FILE_H
#define BH_DATA_USAGE_FILE_H

#include "postgres.h"

#include "data/budget.h"

enum bh_usage_meter {
#define BH_DATABASE_METER(name, slug, unit, description) BH_USAGE_##name,
#include "core/tbl/meters.def"
#undef BH_DATABASE_METER
    BH_USAGE_COUNT
};

struct bh_usage_record {
    int32 no; /* 0: nothing was ever written here */
    uint32 reserved;
    uint64 values[BH_USAGE_COUNT]; /* times in ns */
    struct bh_budget budget;
    uint64 room[4];
};
StaticAssertDecl(sizeof(struct bh_usage_record) == 128, "a record is two cache lines");

/**
 * bh_usage_file_begin():
 * As the server starts: go on with the file where it is whole, else begin a new
 * one.  Returns the file epoch.  Ends the start where the file cannot be written.
 */
uint64 bh_usage_file_begin(void);

/** bh_usage_file_read(no, count, ret_records): ${count} records from ${no} on; raises on failure.
 */
void bh_usage_file_read(int32 no, int count, struct bh_usage_record *ret_records);

/** bh_usage_file_write(record): to its place; raises on failure.  Does not wait for the disk. */
void bh_usage_file_write(const struct bh_usage_record *record);

/** bh_usage_file_next(no): the first number ≥ ${no} that may have a record; 0: none. */
int32 bh_usage_file_next(int32 no);

/** bh_usage_file_end(epoch): as the server stops, after all records: the file is whole. */
void bh_usage_file_end(uint64 epoch);

#endif
