-- The registry: what should be, what is, and who is working on it.
-- Applied once, in one transaction, by control/registry/migrate.c.

-- One row: this installation.  Restoring the registry makes a new incarnation.
CREATE TABLE install (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    uid         uuid NOT NULL,
    incarnation uuid NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE cell (
    name          text PRIMARY KEY,
    uid           uuid NOT NULL UNIQUE,
    user_key_epoch int NOT NULL DEFAULT 1,
    endpoints     text[] NOT NULL           -- of the application
);

CREATE TABLE server (
    name       text PRIMARY KEY,
    uid        uuid NOT NULL UNIQUE,
    cell       text NOT NULL REFERENCES cell,
    key_epoch  int NOT NULL DEFAULT 1
);

-- Keys are derived, never stored; these rows say which epochs are valid when.
CREATE TABLE key_epoch (
    owner      text NOT NULL,               -- 'cell:<name>' or 'server:<name>'
    epoch      int NOT NULL,
    not_before timestamptz NOT NULL,
    not_after  timestamptz NOT NULL,
    PRIMARY KEY (owner, epoch)
);

-- Shared databases that hold many tenants, a schema each.
CREATE TABLE shared_database (
    name        text PRIMARY KEY,
    server      text NOT NULL REFERENCES server,
    max_tenants int NOT NULL DEFAULT 1000
);

CREATE TABLE principal (
    id         text PRIMARY KEY,
    kind       text NOT NULL CHECK (kind IN ('operator', 'agent')),
    cell       text REFERENCES cell,        -- an agent's
    token_hash bytea NOT NULL UNIQUE,       -- SHA-256 of the token
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE SEQUENCE tenant_no_seq AS int;
-- Leases take their attempt here: a later lease of anything has a greater number.
CREATE SEQUENCE attempt_seq;

-- Every tenant that ever was; a row that is gone keeps its uid and no for ever.
CREATE TABLE tenant (
    no                  int PRIMARY KEY,
    uid                 uuid NOT NULL UNIQUE,
    id                  text COLLATE "C" NOT NULL,
    name                text NOT NULL,
    tier                text NOT NULL,
    rate                int NOT NULL,
    burst               int NOT NULL,
    state               text NOT NULL,      -- core/tenant.h
    epoch               int NOT NULL DEFAULT 1,
    generation          bigint NOT NULL DEFAULT 1,
    observed_generation bigint NOT NULL DEFAULT 0,
    cell                text NOT NULL REFERENCES cell,
    server              text REFERENCES server,
    database            text,               -- chosen by the database step
    operation           text,               -- the running one
    failure             jsonb,              -- problem of the last failed flow
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX tenant_living_id ON tenant (id) WHERE state <> 'gone';
-- How full a shared database is.
CREATE INDEX tenant_place ON tenant (server, database) WHERE state <> 'gone';

CREATE TABLE operation (
    id          text COLLATE "C" PRIMARY KEY,           -- op_<ULID>
    kind        text NOT NULL,              -- onboard, update, offboard
    tenant_no   int NOT NULL REFERENCES tenant,
    generation  bigint NOT NULL,
    state       text NOT NULL CHECK (state IN ('running', 'succeeded', 'undoing', 'undone', 'failed')),
    error       jsonb,
    attempt     bigint NOT NULL DEFAULT 0,  -- of the newest lease; effects of an older one are refused
    lease_owner text,
    lease_until timestamptz,
    wake_at     timestamptz NOT NULL DEFAULT now(),
    created_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE INDEX operation_tenant ON operation (tenant_no, id);
-- One running flow per tenant.
CREATE UNIQUE INDEX operation_running ON operation (tenant_no) WHERE finished_at IS NULL;

CREATE TABLE step (
    operation   text COLLATE "C" NOT NULL REFERENCES operation ON DELETE CASCADE,
    position    int NOT NULL,
    name        text NOT NULL,
    state       text NOT NULL CHECK (state IN ('waiting', 'running', 'done', 'undoing', 'undone', 'failed')),
    attempt     int NOT NULL DEFAULT 0,
    spent_ms    int NOT NULL DEFAULT 0,     -- of its deadline; outages of the daemon do not count
    error       jsonb,
    note        text,                       -- for people who look closer: silent edges
    started_at  timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (operation, position)
);

-- The feed: each row is the whole record of one tenant.  seq is given by
-- feed_head under its row lock, as the last statement before COMMIT.
CREATE TABLE feed_head (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    seq bigint NOT NULL DEFAULT 0
);
CREATE TABLE feed (
    seq     bigint PRIMARY KEY,
    no      int NOT NULL,
    cell    text NOT NULL,
    version bigint NOT NULL,                -- rises per tenant
    record  jsonb,                          -- NULL: tombstone
    at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX feed_no ON feed (no, seq DESC);

CREATE TABLE agent (
    id              text PRIMARY KEY,
    cell            text NOT NULL REFERENCES cell,
    incarnation     uuid,
    seq             bigint NOT NULL DEFAULT 0,
    key_epoch       int NOT NULL DEFAULT 0,
    seen_at         timestamptz NOT NULL DEFAULT now()
);

-- Absolute values per source; control alone takes differences.
CREATE TABLE usage_source (
    source     text NOT NULL,
    file_epoch numeric(20) NOT NULL,
    no         int NOT NULL,
    meter      text COLLATE "C" NOT NULL,
    value      bigint NOT NULL,
    sampled_at timestamptz NOT NULL,
    PRIMARY KEY (source, file_epoch, no, meter)
);
CREATE TABLE usage (
    no    int NOT NULL,
    meter text COLLATE "C" NOT NULL,
    hour  timestamptz NOT NULL,
    value bigint NOT NULL,
    PRIMARY KEY (no, meter, hour)
);
