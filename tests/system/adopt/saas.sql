-- A service for many organisations as many are: one schema, org_id here and there, everything the superuser's, one login
-- of the application with ALL, row level security tried out on one table. Three organisations.
CREATE ROLE saas_app LOGIN;
CREATE SCHEMA app;
CREATE EXTENSION pgcrypto SCHEMA public;
CREATE TYPE app.user_role AS ENUM ('owner', 'member', 'guest');
CREATE TYPE app.task_state AS ENUM ('open', 'doing', 'done');
CREATE DOMAIN app.cents AS bigint CHECK (VALUE >= 0);

CREATE TABLE app.plans (code text PRIMARY KEY, title text NOT NULL, monthly app.cents NOT NULL);
CREATE TABLE app.countries (code char(2) PRIMARY KEY, title text NOT NULL);
CREATE TABLE app.organizations (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), slug text NOT NULL UNIQUE, name text NOT NULL,
    plan_code text NOT NULL REFERENCES app.plans, created_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE app.users (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), org_id uuid NOT NULL REFERENCES app.organizations ON DELETE CASCADE,
    email text NOT NULL, role app.user_role NOT NULL DEFAULT 'member', profile jsonb NOT NULL DEFAULT '{}');
CREATE UNIQUE INDEX users_email ON app.users (org_id, lower(email));
CREATE TABLE app.projects (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), org_id uuid NOT NULL REFERENCES app.organizations ON DELETE CASCADE,
    owner_id uuid REFERENCES app.users ON DELETE SET NULL, name text NOT NULL, settings jsonb NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT now(), UNIQUE (org_id, name));
CREATE INDEX projects_owner ON app.projects (owner_id);
CREATE TABLE app.tasks (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, project_id uuid NOT NULL REFERENCES app.projects ON DELETE CASCADE,
    parent_id bigint REFERENCES app.tasks ON DELETE SET NULL, assignee_id uuid REFERENCES app.users ON DELETE SET NULL,
    title text NOT NULL, state app.task_state NOT NULL DEFAULT 'open', tags text[] NOT NULL DEFAULT '{}', due date);
CREATE INDEX tasks_project ON app.tasks (project_id);
CREATE INDEX tasks_open ON app.tasks (due) WHERE state <> 'done';
CREATE INDEX tasks_tags ON app.tasks USING gin (tags);
CREATE TABLE app.comments (
    id bigserial PRIMARY KEY, task_id bigint NOT NULL REFERENCES app.tasks ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
    author_id uuid REFERENCES app.users ON DELETE SET NULL, body text NOT NULL, at timestamptz NOT NULL DEFAULT now());
CREATE INDEX comments_task ON app.comments (task_id, at DESC);
CREATE TABLE app.attachments (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), comment_id bigint NOT NULL REFERENCES app.comments ON DELETE CASCADE, name text NOT NULL, sha bytea);
CREATE TABLE app.labels (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), org_id uuid NOT NULL REFERENCES app.organizations, name text NOT NULL, UNIQUE (org_id, name));
CREATE TABLE app.task_labels (
    task_id bigint NOT NULL REFERENCES app.tasks ON DELETE CASCADE, label_id uuid NOT NULL REFERENCES app.labels ON DELETE CASCADE, PRIMARY KEY (task_id, label_id));
CREATE TABLE app.addresses (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), org_id uuid NOT NULL REFERENCES app.organizations, street text NOT NULL, country char(2) NOT NULL REFERENCES app.countries);
CREATE TABLE app.invoices (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(), org_id uuid NOT NULL REFERENCES app.organizations, number int NOT NULL, total app.cents NOT NULL, UNIQUE (org_id, number));
ALTER TABLE app.invoices ENABLE ROW LEVEL SECURITY;
CREATE POLICY by_setting ON app.invoices USING (org_id = nullif(current_setting('app.org_id', true), '')::uuid);
CREATE TABLE app.invoice_lines (
    invoice_id uuid NOT NULL REFERENCES app.invoices ON DELETE CASCADE, line int NOT NULL, what text NOT NULL, amount app.cents NOT NULL, PRIMARY KEY (invoice_id, line));
CREATE TABLE app.events (
    id uuid NOT NULL DEFAULT gen_random_uuid(), org_id uuid NOT NULL REFERENCES app.organizations, at timestamptz NOT NULL, payload jsonb NOT NULL, PRIMARY KEY (at, id))
    PARTITION BY RANGE (at);
CREATE TABLE app.events_2025 PARTITION OF app.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE app.events_2026 PARTITION OF app.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE app.events_rest PARTITION OF app.events DEFAULT;
CREATE INDEX events_payload ON app.events USING gin (payload);
CREATE INDEX events_org ON app.events (org_id, at);
CREATE TABLE app."Odd ""Names""" ("Id" uuid PRIMARY KEY DEFAULT gen_random_uuid(), org_id uuid NOT NULL REFERENCES app.organizations, "Value" text);
CREATE TABLE app.schema_migrations (version text PRIMARY KEY);

CREATE FUNCTION app.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.updated_at := now(); RETURN NEW; END';
CREATE TRIGGER touch BEFORE UPDATE ON app.projects FOR EACH ROW EXECUTE FUNCTION app.touch();
CREATE FUNCTION app.progress(project uuid) RETURNS numeric LANGUAGE sql STABLE SECURITY DEFINER AS
    $$SELECT round(100.0 * count(*) FILTER (WHERE state = 'done') / nullif(count(*), 0)) FROM app.tasks WHERE project_id = project$$;
CREATE VIEW app.open_tasks AS
    SELECT t.id, t.title, p.name AS project, p.org_id FROM app.tasks t JOIN app.projects p ON p.id = t.project_id WHERE t.state <> 'done';
CREATE MATERIALIZED VIEW app.totals AS SELECT org_id, sum(total) AS total FROM app.invoices GROUP BY org_id;

GRANT USAGE ON SCHEMA app TO saas_app;
GRANT ALL ON ALL TABLES IN SCHEMA app TO saas_app;
GRANT ALL ON ALL SEQUENCES IN SCHEMA app TO saas_app;

INSERT INTO app.plans VALUES ('free', 'Free', 0), ('team', 'Team', 2900);
INSERT INTO app.countries VALUES ('AT', 'Austria'), ('DE', 'Germany');
INSERT INTO app.schema_migrations SELECT to_char(i, 'FM000') FROM generate_series(1, 12) i;
INSERT INTO app.organizations (slug, name, plan_code) VALUES ('north', 'North Ltd', 'team'), ('south', 'South GmbH', 'free'), ('Ost & West', 'Ost & West', 'team');
INSERT INTO app.users (org_id, email) SELECT o.id, 'user' || i || '@example.org' FROM app.organizations o, generate_series(1, 5) i;
INSERT INTO app.projects (org_id, owner_id, name)
    SELECT o.id, (SELECT u.id FROM app.users u WHERE u.org_id = o.id LIMIT 1), 'Project ' || i FROM app.organizations o, generate_series(1, length(o.slug)) i;
INSERT INTO app.tasks (project_id, assignee_id, title, state, due)
    SELECT p.id, p.owner_id, 'Task ' || i || ' of ' || p.id, (ARRAY['open', 'doing', 'done'])[1 + i % 3]::app.task_state, '2026-01-01'::date + i FROM app.projects p, generate_series(1, 60) i;
UPDATE app.tasks t SET parent_id = (SELECT min(x.id) FROM app.tasks x WHERE x.project_id = t.project_id AND x.id < t.id);
INSERT INTO app.comments (task_id, author_id, body) SELECT t.id, t.assignee_id, 'secret of ' || t.title FROM app.tasks t, generate_series(1, 2);
INSERT INTO app.attachments (comment_id, name, sha) SELECT c.id, 'file', digest(c.body, 'sha256') FROM app.comments c WHERE c.id % 3 = 0;
INSERT INTO app.labels (org_id, name) SELECT o.id, l FROM app.organizations o, unnest('{bug,idea,urgent}'::text[]) l;
INSERT INTO app.task_labels SELECT t.id, l.id FROM app.tasks t JOIN app.projects p ON p.id = t.project_id JOIN app.labels l ON l.org_id = p.org_id WHERE t.id % 4 = 0;
INSERT INTO app.addresses (org_id, street, country) SELECT o.id, 'Street of ' || o.slug, 'AT' FROM app.organizations o;
INSERT INTO app.invoices (org_id, number, total) SELECT o.id, i, 100 * i FROM app.organizations o, generate_series(1, 10) i;
INSERT INTO app.invoice_lines SELECT v.id, i, 'Seats', v.total / 2 FROM app.invoices v, generate_series(1, 2) i;
INSERT INTO app.events (org_id, at, payload) SELECT o.id, '2025-07-01'::timestamptz + i * interval '1 day', jsonb_build_object('n', i) FROM app.organizations o, generate_series(1, 700) i;
INSERT INTO app."Odd ""Names""" (org_id, "Value") SELECT o.id, 'odd ' || o.slug FROM app.organizations o;
REFRESH MATERIALIZED VIEW app.totals;
ANALYZE;
