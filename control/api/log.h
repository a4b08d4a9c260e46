/* The daemon's log: logfmt lines on standard error. */
#ifndef BH_CONTROL_API_LOG_H
#define BH_CONTROL_API_LOG_H

#include "core/buf.h"

#define BH_LOG_LINE_MAX                                                                            \
    4096 /* two values of 256 bytes that need six characters each, and the rest */

/** bh_log(area, fmt, ...): one line, time= area= msg="…". */
void bh_log(const char *area, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** bh_log_value(buf, name, value): ` name=value`, quoted where it has to be; at most 256 bytes of
 * it. */
void bh_log_value(struct bh_buf *buf, const char *name, const char *value);

/** bh_log_begin(buf, storage, size) / bh_log_end(buf): a line of named values, begun with its time;
 * write it. */
void bh_log_begin(struct bh_buf *buf, char *storage, size_t size);
void bh_log_end(struct bh_buf *buf);

#endif
