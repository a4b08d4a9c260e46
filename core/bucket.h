/*
 * How many requests may pass now: GCRA, the generic cell rate algorithm
 * (ITU-T I.371), with all state in one number, so that the caller can keep it
 * in shared memory and replace it by compare-and-swap.
 *
 * The number is the theoretical arrival time (TAT) in ns of a monotonic
 * clock.  Nothing here allocates, locks or reads a clock.
 */
#ifndef BH_CORE_BUCKET_H
#define BH_CORE_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

struct bh_bucket_answer {
    bool allowed;
    uint64_t tat_ns; /* the new state; equal to the old one where refused */
    uint32_t left;   /* whole requests that would pass now, after this one */
    uint32_t next_s; /* seconds, rounded up, until ${left} is one more; 0 when full */
};

/**
 * bh_bucket_take(tat_ns, rate, burst, now_ns):
 * May one more request pass at ${now_ns}, when the state is ${tat_ns} (0: never
 * used), ${rate} requests a second are allowed and ${burst} at once (both
 * 1 to 1 000 000)?  A state that lies further in the future than the
 * full burst allows (a reboot, a lowered burst) counts as a bucket with one
 * request left: it passes and leaves a state that is true again.  A rate or
 * burst of 0 lets nothing pass.
 *
 * Where others change the state meanwhile, read it first and the clock
 * afterwards: to a clock that was read before, what they took since would look
 * like a state of the far future.
 */
struct bh_bucket_answer bh_bucket_take(
    uint64_t tat_ns, uint32_t rate, uint32_t burst, uint64_t now_ns);

#endif
