#include "agent/slots.h"

#include <unistd.h>

static enum bh_code
visit_range(const struct bh_counters *counters, size_t first, size_t end, bh_slot_visit *visit,
    void *arg, struct bh_error *err)
{
    for (size_t i = first; i < end && i < counters->capacity; i++) {
        const struct bh_slot *slot = &counters->slots[i];
        uint32_t no = atomic_load_explicit(&slot->no, memory_order_acquire);
        if (no != 0)
            BH_TRY(visit(arg, (uint32_t)i, slot, no, err));
    }
    return BH_OK;
}

enum bh_code
bh_slots_each(int file, const struct bh_counters *counters, bh_slot_visit *visit, void *arg,
    struct bh_error *err)
{
    const off_t head = (off_t)sizeof(struct bh_counters), size = (off_t)sizeof(struct bh_slot);
    off_t data = lseek(file, 0, SEEK_DATA);
    while (data >= 0) {
        off_t hole = lseek(file, data, SEEK_HOLE);
        if (hole < 0)
            break;
        size_t first = data > head ? (size_t)((data - head) / size) : 0;
        size_t end = hole > head ? (size_t)((hole - head + size - 1) / size) : 0;
        BH_TRY(visit_range(counters, first, end, visit, arg, err));
        data = lseek(file, hole, SEEK_DATA);
    }
    return BH_OK;
}
