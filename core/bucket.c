#include "core/bucket.h"

#define SECOND_NS UINT64_C(1000000000)

/* One request takes this long to come back; rounded up, so that never more than ${rate} pass. */
static uint64_t
interval_ns(uint32_t rate)
{
    return (SECOND_NS + rate - 1) / rate;
}

static void
tell_rest(struct bh_bucket_answer *answer, uint64_t room_ns, uint64_t step_ns, uint32_t burst)
{
    uint64_t left = room_ns / step_ns;
    answer->left = (uint32_t)left;
    if (left >= burst)
        return;
    uint64_t wait_ns = (left + 1) * step_ns - room_ns;
    answer->next_s = (uint32_t)((wait_ns + SECOND_NS - 1) / SECOND_NS);
}

struct bh_bucket_answer
bh_bucket_take(uint64_t tat_ns, uint32_t rate, uint32_t burst, uint64_t now_ns)
{
    struct bh_bucket_answer answer = {.allowed = false, .tat_ns = tat_ns, .left = 0, .next_s = 0};
    if (rate == 0 || burst == 0) {
        answer.next_s = 1;
        return answer;
    }
    uint64_t step_ns = interval_ns(rate);
    uint64_t full_ns = step_ns * burst;
    uint64_t ahead_ns = tat_ns > now_ns ? tat_ns - now_ns : 0;
    if (ahead_ns > full_ns)
        ahead_ns = full_ns - step_ns;
    uint64_t room_ns = full_ns - ahead_ns;
    if (room_ns >= step_ns) {
        answer.allowed = true;
        answer.tat_ns = now_ns + ahead_ns + step_ns;
        room_ns -= step_ns;
    }
    tell_rest(&answer, room_ns, step_ns, burst);
    return answer;
}
