/* enter(): which call of it may bind. */
#ifndef BH_DATA_ENTER_H
#define BH_DATA_ENTER_H

#include "postgres.h"

#include "nodes/primnodes.h"

/**
 * bh_enter_expect(call):
 * ${call} is the call of enter() that a client's own statement consists of (NULL:
 * it has none).  enter() refuses every other call, so no function, cursor or
 * expression of somebody else can bind.
 */
void bh_enter_expect(const FuncExpr *call);

#endif
