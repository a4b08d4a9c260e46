#include "control/watch/told.h"

#include <stdlib.h>
#include <string.h>

void
bh_told_forget(struct bh_told *told)
{
    free(told->tenants);
    *told = (struct bh_told){0};
}

static int
by_number(const void *a, const void *b)
{
    const struct bh_link_counters *left = a, *right = b;
    return (left->no > right->no) - (left->no < right->no);
}

/* What ${counters} holds beyond ${before} (NULL: nothing was told). */
static size_t
add_changes(const struct bh_link_counters *counters, const struct bh_link_counters *before,
    struct bh_usage_value *values)
{
    size_t count = 0;
    for (int i = 0; i < BH_METER_DATABASE_COUNT; i++) {
        int64_t told = before ? before->values[i] : 0;
        if (counters->values[i] < 0 || counters->values[i] == told)
            continue;
        values[count++] = (struct bh_usage_value){counters->no,
            bh_meter_slug((enum bh_meter)(BH_METER_EDGE_COUNT + i)), counters->values[i]};
    }
    return count;
}

enum bh_code
bh_told_changes(const struct bh_told *told, struct bh_link_usage *usage, struct bh_arena *arena,
    struct bh_usage_value **ret_values, size_t *ret_count, struct bh_error *err)
{
    struct bh_usage_value *values =
        bh_arena_alloc(arena, (usage->count * BH_METER_DATABASE_COUNT + 1) * sizeof(*values));
    size_t known = told->file_epoch == usage->file_epoch ? told->count : 0;
    size_t at = 0;
    size_t count = 0;
    if (!values)
        return bh_fail(err, BH_E_NO_MEMORY, "no memory for the usage of %zu tenants", usage->count);
    qsort(usage->tenants, usage->count, sizeof(*usage->tenants), by_number);
    for (size_t i = 0; i < usage->count; i++) {
        const struct bh_link_counters *counters = &usage->tenants[i];
        while (at < known && told->tenants[at].no < counters->no)
            at++;
        bool found = at < known && told->tenants[at].no == counters->no;
        count += add_changes(counters, found ? &told->tenants[at] : NULL, values + count);
    }
    *ret_values = values;
    *ret_count = count;
    return BH_OK;
}

void
bh_told_keep(struct bh_told *told, const struct bh_link_usage *usage)
{
    size_t size = usage->count * sizeof(*usage->tenants);
    struct bh_link_counters *copy = malloc(size ? size : 1);
    bh_told_forget(told);
    if (!copy)
        return;
    memcpy(copy, usage->tenants, size);
    told->file_epoch = usage->file_epoch;
    told->tenants = copy;
    told->count = usage->count;
}
