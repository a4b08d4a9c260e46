-- Umbrella sells herbs and first-aid sprays.
-- Run once, as the tenant: names are looked up in its own schema.  Ids come from the sequences, so that
-- what the shop adds later collides with nothing; rows that are there already stay as they are.

INSERT INTO products (name, price_cents)
SELECT * FROM (VALUES
    ('Green herb', 450::bigint),
    ('Red herb', 650::bigint),
    ('First-aid spray', 1990::bigint),
    ('Typewriter ribbon', 299::bigint),
    ('Antidote, 12 vials', 32900::bigint)) AS new (name, price_cents)
WHERE NOT EXISTS (SELECT FROM products);

INSERT INTO stock (product_id, quantity)
SELECT products.id, new.quantity
FROM (VALUES
    ('Green herb', 900::bigint),
    ('Red herb', 400::bigint),
    ('First-aid spray', 250::bigint),
    ('Typewriter ribbon', 80::bigint),
    ('Antidote, 12 vials', 18::bigint)) AS new (name, quantity)
JOIN products USING (name)
ON CONFLICT DO NOTHING;

INSERT INTO customers (name, email) VALUES
    ('Jill Valentine', 'jill@stars.example'),
    ('Chris Redfield', 'chris@stars.example'),
    ('Rebecca Chambers', 'rebecca@stars.example')
ON CONFLICT DO NOTHING;

INSERT INTO addresses (customer_id, street, city, country)
SELECT customers.id, new.street, new.city, new.country
FROM (VALUES
    ('jill@stars.example', 'Ennerdale Street 5', 'Raccoon City', 'US'),
    ('rebecca@stars.example', 'Arklay Road 12', 'Raccoon City', 'US')) AS new (email, street, city, country)
JOIN customers USING (email)
WHERE NOT EXISTS (SELECT FROM addresses);

INSERT INTO coupons (code, percent_off, expires_at) VALUES ('HERBS5', 5, '2027-12-31 23:59:59+00')
ON CONFLICT DO NOTHING;

INSERT INTO orders (customer_id, product_id, quantity, total_cents, created_at)
SELECT customers.id, products.id, new.quantity, new.quantity * products.price_cents, new.created_at
FROM (VALUES
    ('jill@stars.example', 'Green herb', 6, timestamptz '2026-07-11 19:00:00+00'),
    ('jill@stars.example', 'Typewriter ribbon', 3, timestamptz '2026-07-11 19:10:00+00'),
    ('chris@stars.example', 'First-aid spray', 2, timestamptz '2026-07-24 22:05:00+00'),
    ('rebecca@stars.example', 'Antidote, 12 vials', 1, timestamptz '2026-09-28 04:00:00+00'),
    ('chris@stars.example', 'Red herb', 5, timestamptz '2026-09-28 04:30:00+00')) AS new (email, product, quantity, created_at)
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
SELECT id, total_cents, 'cash', created_at + interval '10 minutes' FROM orders
WHERE NOT EXISTS (SELECT FROM payments)
ORDER BY id;

INSERT INTO shipments (order_id, address_id, carrier, shipped_at)
SELECT orders.id, addresses.id, 'Raccoon Freight', orders.created_at + interval '1 day'
FROM orders LEFT JOIN addresses USING (customer_id)
WHERE NOT EXISTS (SELECT FROM shipments)
ORDER BY orders.id;

INSERT INTO audit_notes (what, order_id)
SELECT 'imported with the example', id FROM orders
WHERE NOT EXISTS (SELECT FROM audit_notes)
ORDER BY id;
