/*
 * How long a transaction may act for its tenant, whatever it catches: after
 * bulkhead.max_transaction_age its next statement is refused, and some seconds
 * later its connection ends, even inside a statement.
 */
#ifndef BH_DATA_AGE_H
#define BH_DATA_AGE_H

/** bh_age_begin(): count for this transaction, from its start on. */
void bh_age_begin(void);

/** bh_age_check(): before each statement; raises TN002 where the transaction is too old. */
void bh_age_check(void);

/** bh_age_end(): stop counting; does nothing where nobody counts. */
void bh_age_end(void);

#endif
