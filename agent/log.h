/* One line a fact on stderr, with the time; a program's log is its stderr. */
#ifndef BH_AGENT_LOG_H
#define BH_AGENT_LOG_H

#include <stdint.h>

#include "core/error.h"

/** bh_log(fmt, ...): write one line (cut at 1 KiB); control characters become spaces. */
void bh_log(const char *fmt, ...) BH_PRINTF(1, 2);

/** bh_log_error(what, err): the same for a failure: "<what>: <detail>; <hint>". */
void bh_log_error(const char *what, const struct bh_error *err);

/** bh_now_us() / bh_mono_us(): wall clock and monotonic clock, in microseconds. */
int64_t bh_now_us(void);
int64_t bh_mono_us(void);

/** bh_jitter(base): ${base} plus a random part of up to a quarter of it. */
int64_t bh_jitter(int64_t base);

#endif
