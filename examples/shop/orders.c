/* Orders: plain table names, no tenant column; the transaction knows whose they are. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "handlers.h"
#include "input.h"
#include "query.h"

#define MISSING "there is no such order"

#define ORDER_COLUMNS                                                                              \
    "id, product_id, quantity, total_cents, "                                                      \
    "to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS created_at"

void
shop_orders_list(const struct shop_request *request, struct shop_reply *reply)
{
    const struct shop_statement list = {
        "SELECT '{\"items\":[' || coalesce(string_agg(row_to_json(o)::text, ',' ORDER BY o.id), '')"
        " || ']}' FROM (SELECT " ORDER_COLUMNS " FROM orders) o",
        0, NULL};
    shop_answer(shop_read(request, &list, reply), MISSING, reply);
}

void
shop_orders_get(const struct shop_request *request, struct shop_reply *reply)
{
    char id[24];
    const char *params[] = {id};
    snprintf(id, sizeof(id), "%" PRId64, request->id);
    const struct shop_statement get = {"SELECT row_to_json(o) FROM (SELECT " ORDER_COLUMNS
                                       " FROM orders WHERE id = $1::bigint) o",
        1, params};
    shop_answer(shop_read(request, &get, reply), MISSING, reply);
}

void
shop_orders_totals(const struct shop_request *request, struct shop_reply *reply)
{
    if (request->by == NULL || strcmp(request->by, "day") != 0) {
        shop_problem(reply, 422, "invalid", "?by", "by must be day");
        return;
    }
    const struct shop_statement totals = {
        "SELECT '{\"items\":[' || coalesce(string_agg(row_to_json(d)::text, ',' ORDER BY d.day), '')"
        " || ']}' FROM (SELECT (created_at AT TIME ZONE 'UTC')::date AS day, count(*) AS orders,"
        " sum(total_cents)::bigint AS total_cents FROM orders GROUP BY 1) d",
        0, NULL};
    shop_answer(shop_read(request, &totals, reply), MISSING, reply);
}

void
shop_orders_create(const struct shop_request *request, struct shop_reply *reply)
{
    struct shop_member members[] = {
        {.name = "product_id", .min = 1, .max = INT64_MAX},
        {.name = "quantity", .min = 1, .max = 1000000},
    };
    if (!shop_input(request, members, 2, reply))
        return;
    const char *params[] = {members[0].value, members[1].value};
    const struct shop_statement statements[] = {
        {"UPDATE stock SET quantity = quantity - $2::bigint WHERE product_id = $1::bigint", 2,
            params},
        {"WITH o AS (INSERT INTO orders (product_id, quantity, total_cents)"
         "  SELECT id, $2::int, price_cents * $2::int FROM products WHERE id = $1::bigint"
         "  RETURNING *),"
         " line AS (INSERT INTO order_lines (order_id, product_id, quantity, unit_price_cents)"
         "  SELECT id, product_id, quantity, total_cents / quantity FROM o),"
         " note AS (INSERT INTO audit_notes (what, order_id) SELECT 'ordered', id FROM o)"
         " SELECT row_to_json(r), r.id FROM (SELECT " ORDER_COLUMNS " FROM o) r",
            2, params},
    };
    PGresult *result = shop_write(request, statements, 2, reply);
    if (result == NULL)
        return;
    if (PQntuples(result) == 1) {
        snprintf(reply->location, sizeof(reply->location), "/orders/%s", PQgetvalue(result, 0, 1));
        shop_json(reply, 201, PQgetvalue(result, 0, 0));
    } else {
        shop_problem(reply, 422, "invalid", "/product_id", "there is no such product");
    }
    PQclear(result);
}
