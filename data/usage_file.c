#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "utils/timestamp.h"

#include "data/usage_file.h"

#define PATH PG_STAT_TMP_DIR "/bulkhead_usage"
#define MAGIC UINT64CONST(0x6268757361676531) /* "bhusage1" */

struct header {
    uint64 magic;
    uint32 record_bytes;
    uint32 clean;
    uint64 epoch;
    uint64 room[13];
};
StaticAssertDecl(sizeof(struct header) == sizeof(struct bh_usage_record), "in the place of no 0");

static int file = -1; /* of this process */

static void
failed(int level, const char *doing)
{
    ereport(level, (errcode_for_file_access(), errmsg("could not %s \"%s\": %m", doing, PATH)));
}

static void
open_file(int flags)
{
    if (file >= 0)
        return;
    ReserveExternalFD();
    file = BasicOpenFile(PATH, O_RDWR | O_CLOEXEC | PG_BINARY | flags);
    if (file < 0) {
        ReleaseExternalFD();
        failed(ERROR, "open file");
    }
}

static void
close_file(void)
{
    if (file >= 0) {
        close(file);
        ReleaseExternalFD();
    }
    file = -1;
}

static off_t
place(int32 no)
{
    return (off_t)no * (off_t)sizeof(struct bh_usage_record);
}

/* ---- records ---- */

void
bh_usage_file_read(int32 no, int count, struct bh_usage_record *ret_records)
{
    size_t size = (size_t)count * sizeof(*ret_records);
    ssize_t got;

    open_file(0);
    memset(ret_records, 0, size);
    got = pg_pread(file, ret_records, size, place(no));
    if (got < 0)
        failed(ERROR, "read file");
    for (int i = 0; i < count; i++)
        if (ret_records[i].no != 0 && ret_records[i].no != no + i)
            ereport(ERROR,
                (errcode(ERRCODE_DATA_CORRUPTED),
                    errmsg("file \"%s\" is damaged at %d", PATH, no + i),
                    errhint(
                        "Stop the server, remove the file and start: a new file epoch begins.")));
}

void
bh_usage_file_write(const struct bh_usage_record *record)
{
    ssize_t done;

    open_file(0);
    errno = 0;
    done = pg_pwrite(file, record, sizeof(*record), place(record->no));
    if (done == (ssize_t)sizeof(*record))
        return;
    if (errno == 0)
        errno = ENOSPC;
    failed(ERROR, "write file");
}

int32
bh_usage_file_next(int32 no)
{
    off_t at;

    open_file(0);
    at = lseek(file, place(no), SEEK_DATA);
    if (at < 0 && errno == ENXIO)
        return 0;
    if (at < 0)
        failed(ERROR, "seek in file");
    return Max(no, (int32)(at / (off_t)sizeof(struct bh_usage_record)));
}

/* ---- start and stop ---- */

static bool
server_was_stopped_cleanly(void)
{
    bool crc_ok;
    ControlFileData *control = get_controlfile(DataDir, &crc_ok);
    bool clean =
        crc_ok && (control->state == DB_SHUTDOWNED || control->state == DB_SHUTDOWNED_IN_RECOVERY);

    pfree(control);
    return clean;
}

static void
write_header(uint64 epoch, bool clean)
{
    struct header header = {.magic = MAGIC,
        .record_bytes = sizeof(struct bh_usage_record),
        .clean = clean,
        .epoch = epoch};

    if (clean && pg_fsync(file) != 0) /* the records first */
        failed(ERROR, "fsync file");
    if (pg_pwrite(file, &header, sizeof(header), 0) != (ssize_t)sizeof(header))
        failed(ERROR, "write file");
    if (pg_fsync(file) != 0)
        failed(ERROR, "fsync file");
}

static bool
whole(const struct header *header)
{
    return header->magic == MAGIC && header->record_bytes == sizeof(struct bh_usage_record) &&
           header->clean == 1 && server_was_stopped_cleanly();
}

/* Later than any other epoch of this data directory, as far as the file tells. */
static uint64
new_epoch(const struct header *old)
{
    uint64 now =
        (uint64)(GetCurrentTimestamp() + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY);

    return old->magic == MAGIC && old->epoch >= now && old->epoch < PG_INT64_MAX ? old->epoch + 1
                                                                                 : now;
}

uint64
bh_usage_file_begin(void)
{
    struct header header = {0};
    uint64 epoch;

    open_file(O_CREAT);
    if (pg_pread(file, &header, sizeof(header), 0) < 0)
        failed(ERROR, "read file");
    if (whole(&header)) {
        epoch = header.epoch;
    } else {
        epoch = new_epoch(&header);
        if (ftruncate(file, 0) != 0)
            failed(ERROR, "truncate file");
    }
    write_header(epoch, false);
    close_file(); /* backends open their own */
    return epoch;
}

void
bh_usage_file_end(uint64 epoch)
{
    open_file(0);
    if (server_was_stopped_cleanly())
        write_header(epoch, true);
    close_file();
}
