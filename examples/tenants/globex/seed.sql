-- Globex sells what a supervillain's office needs.
-- Run once, as the tenant: names are looked up in its own schema.  Ids come from the sequences, so that
-- what the shop adds later collides with nothing; rows that are there already stay as they are.

INSERT INTO products (name, price_cents)
SELECT * FROM (VALUES
    ('Doomsday device, starter kit', 999900::bigint),
    ('Hammock', 18900::bigint),
    ('Moccasins', 12950::bigint),
    ('Weather dominator, desktop', 449900::bigint)) AS new (name, price_cents)
WHERE NOT EXISTS (SELECT FROM products);

INSERT INTO stock (product_id, quantity)
SELECT products.id, new.quantity
FROM (VALUES
    ('Doomsday device, starter kit', 3::bigint),
    ('Hammock', 60::bigint),
    ('Moccasins', 75::bigint),
    ('Weather dominator, desktop', 5::bigint)) AS new (name, quantity)
JOIN products USING (name)
ON CONFLICT DO NOTHING;

INSERT INTO customers (name, email) VALUES
    ('Hank Scorpio', 'hank@globex.example'),
    ('Homer Simpson', 'homer@power.example')
ON CONFLICT DO NOTHING;

INSERT INTO addresses (customer_id, street, city, country)
SELECT customers.id, new.street, new.city, new.country
FROM (VALUES
    ('hank@globex.example', 'Volcano Drive 3', 'Cypress Creek', 'US'),
    ('homer@power.example', 'Evergreen Terrace 742', 'Springfield', 'US')) AS new (email, street, city, country)
JOIN customers USING (email)
WHERE NOT EXISTS (SELECT FROM addresses);

INSERT INTO coupons (code, percent_off, expires_at) VALUES ('HAMMOCK25', 25, '2027-12-31 23:59:59+00')
ON CONFLICT DO NOTHING;

INSERT INTO orders (customer_id, product_id, quantity, total_cents, created_at)
SELECT customers.id, products.id, new.quantity, new.quantity * products.price_cents, new.created_at
FROM (VALUES
    ('homer@power.example', 'Hammock', 4, timestamptz '2026-08-20 09:00:00+00'),
    ('homer@power.example', 'Moccasins', 1, timestamptz '2026-08-21 10:20:00+00'),
    ('hank@globex.example', 'Weather dominator, desktop', 1, timestamptz '2026-10-30 06:45:00+00')) AS new (email, product, quantity, created_at)
JOIN customers USING (email)
JOIN products ON products.name = new.product
WHERE NOT EXISTS (SELECT FROM orders)
ORDER BY new.created_at;

INSERT INTO order_lines (order_id, product_id, quantity, unit_price_cents)
SELECT orders.id, orders.product_id, orders.quantity, products.price_cents
FROM orders JOIN products ON products.id = orders.product_id
WHERE NOT EXISTS (SELECT FROM order_lines)
ORDER BY orders.id;

INSERT INTO payments (order_id, amount_cents, method, paid_at)
SELECT id, total_cents, 'transfer', created_at + interval '10 minutes' FROM orders
WHERE NOT EXISTS (SELECT FROM payments)
ORDER BY id;

INSERT INTO shipments (order_id, address_id, carrier, shipped_at)
SELECT orders.id, addresses.id, 'Globex Couriers', orders.created_at + interval '1 day'
FROM orders LEFT JOIN addresses USING (customer_id)
WHERE NOT EXISTS (SELECT FROM shipments)
ORDER BY orders.id;

INSERT INTO audit_notes (what, order_id)
SELECT 'imported with the example', id FROM orders
WHERE NOT EXISTS (SELECT FROM audit_notes)
ORDER BY id;
