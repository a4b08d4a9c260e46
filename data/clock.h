/* Clocks, in nanoseconds.  Both may be read in a signal handler. */
#ifndef BH_DATA_CLOCK_H
#define BH_DATA_CLOCK_H

#include <stdint.h>
#include <time.h>

/** bh_clock_ns(clock): CLOCK_MONOTONIC costs no system call, CLOCK_PROCESS_CPUTIME_ID one. */
static inline uint64_t
bh_clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

#endif
