/*
 * Constant SELECT: what a pool role may run before a tenant is bound.
 *
 * No FROM, no sub-select; constants and parameters of plain types, immutable
 * built-in operators and casts between such types, and the functions of one
 * short list.  enter() is allowed as the only thing that a statement does.
 */
#ifndef BH_DATA_CONSTANT_H
#define BH_DATA_CONSTANT_H

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"

/** bh_constant_register(): watch the catalogue; once, at load. */
void bh_constant_register(void);

/** bh_constant_query(query) / bh_constant_plan(plan): is it constant, before / after planning? */
bool bh_constant_query(const Query *query);
bool bh_constant_plan(const PlannedStmt *plan);

/** bh_constant_function(funcid): may an expression of a constant SELECT call ${funcid}? */
bool bh_constant_function(Oid funcid);

/**
 * bh_constant_plan_enter(query):
 * The plan of ${query} where it is `SELECT bulkhead.enter($1)` and nothing else;
 * NULL otherwise.  It is what the planner would make, for a part of the cost.
 * Takes parts of ${query}, as the planner does.
 */
PlannedStmt *bh_constant_plan_enter(Query *query);

/**
 * bh_constant_enter(plan):
 * The call where ${plan} is `SELECT bulkhead.enter(…)` and nothing else; NULL otherwise.
 */
const FuncExpr *bh_constant_enter(const PlannedStmt *plan);

/**
 * bh_constant_literal_token(query):
 * Is ${query} such a call whose token is written into the statement instead of bound?
 */
bool bh_constant_literal_token(const Query *query);

#endif
