/*
 * The seat belt of mode `row`, where rows of many tenants lie in one table and
 * row security is all that is between them: a table whose row security is not
 * both enabled and forced is refused, and so is whoever row security does not
 * hold.  Tables that are labelled shared may be read.
 */
#ifndef BH_DATA_ROWS_H
#define BH_DATA_ROWS_H

/** bh_rows_install(): put our hook in front of the one that is there; once, at load. */
void bh_rows_install(void);

#endif
