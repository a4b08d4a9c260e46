/* The page for people: whose shop this is, and what it sells. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handlers.h"
#include "query.h"

static const char head[] =
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
    "<style>\n"
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem;"
    "color:#1a1d21;background:#fff}\n"
    "h1{font-size:1.75rem;margin:0}p{color:#59616b;margin:.25rem 0 2rem}\n"
    "table{border-collapse:collapse;width:100%}caption{text-align:left;font-weight:600;"
    "padding:.5rem 0}\n"
    "th,td{text-align:left;padding:.5rem 0;border-bottom:1px solid #d9dde2}\n"
    "th{font-weight:600}.n{text-align:right;font-variant-numeric:tabular-nums}\n"
    "@media(prefers-color-scheme:dark){body{color:#e6e8ea;background:#15181b}p{color:#9aa3ad}"
    "th,td{border-color:#333a41}}\n"
    "</style>\n";

/* Text from a customer's rows is text, never markup. */
static void
put_escaped(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '&':
            fputs("&amp;", out);
            break;
        case '<':
            fputs("&lt;", out);
            break;
        case '>':
            fputs("&gt;", out);
            break;
        case '"':
            fputs("&quot;", out);
            break;
        case '\'':
            fputs("&#39;", out);
            break;
        default:
            fputc(*text, out);
        }
    }
}

static void
put_price(FILE *out, const char *cents)
{
    int64_t value = strtoll(cents, NULL, 10);
    fprintf(out, "%" PRId64 ".%02" PRId64, value / 100, value % 100);
}

static void
put_products(FILE *out, PGresult *products)
{
    fputs("<table>\n<caption>Products</caption>\n<thead><tr><th scope=\"col\">Name</th>"
          "<th scope=\"col\" class=\"n\">Price</th></tr></thead>\n<tbody>\n",
        out);
    for (int row = 0; row < PQntuples(products); row++) {
        if (PQgetisnull(products, row, 1))
            continue; /* the one row of a shop without products */
        fputs("<tr><td>", out);
        put_escaped(out, PQgetvalue(products, row, 1));
        fputs("</td><td class=\"n\">", out);
        put_price(out, PQgetvalue(products, row, 2));
        fputs("</td></tr>\n", out);
    }
    fputs("</tbody>\n</table>\n", out);
}

static void
put_page(FILE *out, PGresult *products)
{
    const char *tenant = PQgetvalue(products, 0, 0);
    bool empty = PQntuples(products) == 1 && PQgetisnull(products, 0, 1);
    fputs(head, out);
    fputs("<title>", out);
    put_escaped(out, tenant);
    fputs(" – shop</title>\n</head>\n<body>\n<main>\n<h1>", out);
    put_escaped(out, tenant);
    fputs("</h1>\n<p>A shop with a database schema of its own</p>\n", out);
    if (empty)
        fputs("<p>Nothing is for sale yet.</p>\n", out);
    else
        put_products(out, products);
    fputs("</main>\n</body>\n</html>\n", out);
}

void
shop_home(const struct shop_request *request, struct shop_reply *reply)
{
    /* The id comes from the bound transaction, not from a header that anybody could send us. */
    const struct shop_statement query = {
        "SELECT me.id, p.name, p.price_cents FROM (SELECT bulkhead.tenant_id() AS id) me"
        " LEFT JOIN products p ON true ORDER BY p.id LIMIT 500",
        0, NULL};
    PGresult *products = shop_read(request, &query, reply);
    if (products == NULL)
        return;
    FILE *out = open_memstream(&reply->body, &reply->body_len);
    if (out != NULL) {
        put_page(out, products);
        fclose(out);
        reply->status = 200;
        reply->type = "text/html; charset=utf-8";
    }
    PQclear(products);
}
