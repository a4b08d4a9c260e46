#include "snapshot/counters.h"

#include <openssl/rand.h>
#include <sys/mman.h>

#include "snapshot/mapped.h"

#define FILE_BYTES                                                                                 \
    (sizeof(struct bh_counters) + (size_t)BH_COUNTERS_CAPACITY * sizeof(struct bh_slot))

static bool
header_ours(const void *header, const void *arg)
{
    const struct bh_counters *counters = header;
    (void)arg;
    return counters->magic == BH_COUNTERS_MAGIC && counters->version == BH_COUNTERS_VERSION &&
           counters->slot_bytes == sizeof(struct bh_slot) &&
           counters->capacity == BH_COUNTERS_CAPACITY;
}

static enum bh_code
fill_header(void *to, const void *arg, struct bh_error *err)
{
    struct bh_counters *header = to;
    (void)arg;
    *header = (struct bh_counters){
        .magic = BH_COUNTERS_MAGIC,
        .version = BH_COUNTERS_VERSION,
        .slot_bytes = sizeof(struct bh_slot),
        .capacity = BH_COUNTERS_CAPACITY,
    };
    while (header->file_epoch == 0) {
        if (RAND_bytes((unsigned char *)&header->file_epoch, sizeof(header->file_epoch)) != 1) {
            return bh_fail(err, BH_E_INTERNAL, "no randomness for the counters file");
        }
        /* Travels as a JSON integer that jansson and PostgreSQL hold in 63 bits. */
        header->file_epoch >>= 1;
    }
    return BH_OK;
}

static const struct bh_mapped kind = {
    .what = "counters",
    .bytes = FILE_BYTES,
    .header_bytes = sizeof(struct bh_counters),
    .ours = header_ours,
    .fill = fill_header,
};

enum bh_code
bh_counters_open(
    const char *path, bool create, struct bh_counters **ret_counters, struct bh_error *err)
{
    void *map;
    BH_TRY(bh_mapped_open(path, &kind, create, &map, NULL, err));
    *ret_counters = map;
    return BH_OK;
}

static bool
same_file(const void *header, const void *arg)
{
    const struct bh_counters *counters = arg;
    return ((const struct bh_counters *)header)->file_epoch == counters->file_epoch;
}

bool
bh_counters_replaced(const struct bh_counters *counters, const char *path)
{
    struct bh_mapped this = kind;
    this.ours = same_file;
    this.arg = counters;
    return bh_mapped_replaced(path, &this);
}

void
bh_counters_close(struct bh_counters *counters)
{
    if (counters != NULL) {
        munmap(counters, FILE_BYTES);
    }
}
