-- A library with one customer: nothing here knows of tenants.
CREATE TYPE loan_kind AS ENUM ('short', 'long');
CREATE SEQUENCE shelf_numbers;
CREATE TABLE books (id serial PRIMARY KEY, title text NOT NULL, shelf int NOT NULL DEFAULT nextval('shelf_numbers'));
CREATE TABLE loans (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, book_id int NOT NULL REFERENCES books, kind loan_kind NOT NULL, due date);
CREATE TABLE log (at date NOT NULL, what text, PRIMARY KEY (at)) PARTITION BY RANGE (at);
CREATE TABLE log_rest PARTITION OF log DEFAULT;
CREATE VIEW late_loans AS SELECT l.id, b.title FROM loans l JOIN books b ON b.id = l.book_id WHERE l.due < current_date;
CREATE FUNCTION shelf(n int) RETURNS text LANGUAGE sql IMMUTABLE AS $$SELECT 'S' || n$$;
INSERT INTO books (title) VALUES ('One'), ('Two'), ('Three');
