#include <inttypes.h>
#include <stdio.h>

#include "handlers.h"
#include "input.h"
#include "query.h"

#define MISSING "there is no such product"

#define PRODUCT_COLUMNS                                                                            \
    "id, name, price_cents, "                                                                      \
    "to_char(created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"') AS created_at"

void
shop_products_list(const struct shop_request *request, struct shop_reply *reply)
{
    const struct shop_statement list = {
        "SELECT '{\"items\":[' || coalesce(string_agg(row_to_json(p)::text, ',' ORDER BY p.id), '')"
        " || ']}' FROM (SELECT " PRODUCT_COLUMNS " FROM products) p",
        0, NULL};
    shop_answer(shop_read(request, &list, reply), MISSING, reply);
}

void
shop_products_get(const struct shop_request *request, struct shop_reply *reply)
{
    char id[24];
    const char *params[] = {id};
    snprintf(id, sizeof(id), "%" PRId64, request->id);
    const struct shop_statement get = {"SELECT row_to_json(p) FROM (SELECT " PRODUCT_COLUMNS
                                       " FROM products WHERE id = $1::bigint) p",
        1, params};
    shop_answer(shop_read(request, &get, reply), MISSING, reply);
}

void
shop_products_create(const struct shop_request *request, struct shop_reply *reply)
{
    struct shop_member members[] = {
        {.name = "name", .is_text = true, .min = 1, .max = SHOP_NAME_MAX},
        {.name = "price_cents", .min = 0, .max = 1000000000},
    };
    if (!shop_input(request, members, 2, reply))
        return;
    const char *params[] = {members[0].value, members[1].value};
    const struct shop_statement insert = {
        "WITH p AS (INSERT INTO products (name, price_cents) VALUES ($1::text, $2::bigint)"
        " RETURNING *)"
        " SELECT row_to_json(r), r.id FROM (SELECT " PRODUCT_COLUMNS " FROM p) r",
        2, params};
    PGresult *result = shop_write(request, &insert, 1, reply);
    if (result == NULL)
        return;
    snprintf(reply->location, sizeof(reply->location), "/products/%s", PQgetvalue(result, 0, 1));
    shop_json(reply, 201, PQgetvalue(result, 0, 0));
    PQclear(result);
}
