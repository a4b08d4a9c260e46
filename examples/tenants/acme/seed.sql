-- Acme sells anvils, and what a coyote needs beside them.
-- Run once, as the tenant: names are looked up in its own schema.  Ids come from the sequences, so that
-- what the shop adds later collides with nothing; rows that are there already stay as they are.

INSERT INTO products (name, price_cents)
SELECT * FROM (VALUES
    ('Anvil, 50 kg', 14900::bigint),
    ('Anvil, 100 kg', 26900::bigint),
    ('Rocket skates', 49900::bigint),
    ('Giant magnet', 8950::bigint),
    ('Dehydrated boulders', 1999::bigint)) AS new (name, price_cents)
WHERE NOT EXISTS (SELECT FROM products);

INSERT INTO stock (product_id, quantity)
SELECT products.id, new.quantity
FROM (VALUES
    ('Anvil, 50 kg', 120::bigint),
    ('Anvil, 100 kg', 40::bigint),
    ('Rocket skates', 12::bigint),
    ('Giant magnet', 33::bigint),
    ('Dehydrated boulders', 500::bigint)) AS new (name, quantity)
JOIN products USING (name)
ON CONFLICT DO NOTHING;

INSERT INTO customers (name, email) VALUES
    ('Wile E. Coyote', 'wile@coyote.example'),
    ('Road Runner', 'beep@runner.example'),
    ('Marvin', 'marvin@mars.example')
ON CONFLICT DO NOTHING;

INSERT INTO addresses (customer_id, street, city, country)
SELECT customers.id, new.street, new.city, new.country
FROM (VALUES
    ('wile@coyote.example', 'Mesa Road 1', 'Flagstaff', 'US'),
    ('marvin@mars.example', 'Crater Lane 7', 'Roswell', 'US')) AS new (email, street, city, country)
JOIN customers USING (email)
WHERE NOT EXISTS (SELECT FROM addresses);

INSERT INTO coupons (code, percent_off, expires_at) VALUES ('ANVIL10', 10, '2027-12-31 23:59:59+00')
ON CONFLICT DO NOTHING;

INSERT INTO orders (customer_id, product_id, quantity, total_cents, created_at)
SELECT customers.id, products.id, new.quantity, new.quantity * products.price_cents, new.created_at
FROM (VALUES
    ('wile@coyote.example', 'Anvil, 50 kg', 2, timestamptz '2026-09-01 08:15:00+00'),
    ('wile@coyote.example', 'Rocket skates', 1, timestamptz '2026-09-01 17:40:00+00'),
    ('wile@coyote.example', 'Dehydrated boulders', 24, timestamptz '2026-09-14 11:05:00+00'),
    ('marvin@mars.example', 'Giant magnet', 1, timestamptz '2026-10-03 21:30:00+00')) AS new (email, product, quantity, created_at)
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
SELECT id, total_cents, 'card', created_at + interval '10 minutes' FROM orders
WHERE NOT EXISTS (SELECT FROM payments)
ORDER BY id;

INSERT INTO shipments (order_id, address_id, carrier, shipped_at)
SELECT orders.id, addresses.id, 'Roadrunner Express', orders.created_at + interval '1 day'
FROM orders LEFT JOIN addresses USING (customer_id)
WHERE NOT EXISTS (SELECT FROM shipments)
ORDER BY orders.id;

INSERT INTO audit_notes (what, order_id)
SELECT 'imported with the example', id FROM orders
WHERE NOT EXISTS (SELECT FROM audit_notes)
ORDER BY id;
