-- What bulkheadd reads out of the database servers: refusals, drift, and how far it has read.

-- How to reach the server as superuser, without a database; NULL: as --server says.
ALTER TABLE server ADD COLUMN conninfo text;

-- One daemon reads a server at a time: whoever holds the lease.
CREATE TABLE server_watch (
    server             text PRIMARY KEY REFERENCES server ON DELETE CASCADE,
    owner              text,
    lease_until        timestamptz,
    state              text NOT NULL DEFAULT 'unknown' CHECK (state IN ('unknown', 'up', 'limited', 'down')),
    message            text,                        -- why it is limited or down
    extension          text,                        -- version in the database that is read
    changed_at         timestamptz NOT NULL DEFAULT now(),
    read_at            timestamptz,                 -- the last complete reading
    -- The ring of refusals: which one, how far its entries are in `audit`, and of those that its rate
    -- limit held back how many its entries told of, how many were told of before any entry did.
    audit_epoch        bigint,
    audit_seq          bigint NOT NULL DEFAULT 0,
    audit_suppressed   bigint NOT NULL DEFAULT 0,
    audit_unattributed bigint NOT NULL DEFAULT 0
);

-- Refusals, newest id last.  (server, epoch, seq) comes from the ring, so reading twice adds nothing.
-- kind: refused; suppressed: `count` more that a rate limit kept out of the ring, of this tenant, or
-- without one where no later entry has told yet whose they were;
-- dropped: `count` entries that the ring overwrote before they were read; restart: the server began
-- a new ring, what was in the old one and not yet read is lost, and nobody knows how many.
-- Rows are pruned by age and number (control/registry/audit.c), the rest is kept, also of tenants
-- that are gone.
CREATE TABLE audit (
    id          text COLLATE "C" PRIMARY KEY,   -- aud_<ULID of `at`>
    kind        text NOT NULL CHECK (kind IN ('refused', 'suppressed', 'dropped', 'restart')),
    server      text NOT NULL,
    epoch       bigint NOT NULL,
    seq         bigint NOT NULL,
    at          timestamptz NOT NULL,
    no          int,
    tenant      text COLLATE "C",
    subject     text,
    database    text,
    object      text,
    sqlstate    text COLLATE "C",
    message     text,
    fingerprint text,
    count       bigint NOT NULL DEFAULT 1,
    read_at     timestamptz NOT NULL DEFAULT now(),
    UNIQUE (server, epoch, seq, kind)
);
CREATE INDEX audit_tenant ON audit (tenant, id);
CREATE INDEX audit_no ON audit (no, id);

-- The self-check of each database with tenants, and what it found last.
CREATE TABLE selfcheck (
    server        text NOT NULL REFERENCES server ON DELETE CASCADE,
    database      text NOT NULL,
    due_at        timestamptz NOT NULL DEFAULT now() + interval '5 s', -- a new server gets its keys meanwhile
    claimed_at    timestamptz,                  -- somebody has been at it since; for two minutes
    checked_at    timestamptz,                  -- what is below was true then
    PRIMARY KEY (server, database)
);
CREATE TABLE finding (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    server   text NOT NULL,
    database text NOT NULL,
    object   text NOT NULL,
    problem  text NOT NULL,
    fix      text,
    found_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (server, database) REFERENCES selfcheck ON DELETE CASCADE
);
CREATE INDEX finding_place ON finding (server, database);

-- Crockford base 32 of 128 bits: 48 of the time in ms, then 80 of ${tail}, as core/tenant.c makes ULIDs.
CREATE FUNCTION ulid(at timestamptz, tail bytea) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT string_agg(substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', 1 + substring(b.bits FROM 5 * i + 1 FOR 5)::int, 1), ''
                      ORDER BY i)
    FROM (SELECT B'00' || (floor(extract(epoch FROM at) * 1000)::bigint)::bit(48)
                 || ('x' || encode(substring(tail FROM 1 FOR 10), 'hex'))::bit(80) AS bits) b,
         generate_series(0, 25) i
$$;
