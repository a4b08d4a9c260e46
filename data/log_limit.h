/*
 * How much one tenant may write into the server's log, which is one disk for all:
 * RAISE, and each error, would be a way to fill it.  What the server says of itself
 * (LOG: statements, durations, connections) is the operator's choice and not limited.
 */
#ifndef BH_DATA_LOG_LIMIT_H
#define BH_DATA_LOG_LIMIT_H

#include "postgres.h"

/**
 * bh_log_limit(error):
 * ${error} is about to be logged.  Keeps it out of the log where its tenant has had
 * bulkhead.log_rate a second already, or where it is longer than 64 kB; the next
 * one that is logged says how many were kept out.  A longer statement is hidden.
 */
void bh_log_limit(ErrorData *error);

#endif
