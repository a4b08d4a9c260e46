-- What tiers and tenants say to the edge: documents in the feed, tiers, domains, quotas.

-- A row of the feed is the record of a tenant (no) or a document (its name).  A document of cell NULL
-- goes to every cell; `version` of a document is the row's seq.
ALTER TABLE feed ALTER COLUMN no DROP NOT NULL, ALTER COLUMN cell DROP NOT NULL;
ALTER TABLE feed ADD COLUMN document text COLLATE "C", ADD COLUMN body text; -- body NULL: tombstone
ALTER TABLE feed ADD CHECK ((no IS NULL) <> (document IS NULL)), ADD CHECK (document IS NOT NULL OR cell IS NOT NULL);
CREATE INDEX feed_document ON feed (document, seq DESC) WHERE document IS NOT NULL;

CREATE TABLE tier (
    name       text COLLATE "C" PRIMARY KEY,
    edge       jsonb NOT NULL DEFAULT '{}', -- core/policy.h
    generation bigint NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO tier (name) VALUES ('standard');

ALTER TABLE tenant ADD FOREIGN KEY (tier) REFERENCES tier;
ALTER TABLE tenant ADD COLUMN edge jsonb NOT NULL DEFAULT '{}',      -- laid over its tier's, member by member
                   ADD COLUMN domains jsonb NOT NULL DEFAULT '[]',   -- custom domains
                   ADD COLUMN endpoints jsonb NOT NULL DEFAULT '[]'; -- []: its cell's
CREATE INDEX tenant_own_edge ON tenant (tier, no) WHERE edge <> '{}' AND state <> 'gone';

-- Whose a custom domain is.  Written with tenant.domains; freed when the tenant is gone.
CREATE TABLE domain (
    name text COLLATE "C" PRIMARY KEY,
    no   int NOT NULL REFERENCES tenant
);
CREATE INDEX domain_no ON domain (no);

-- Budgets of quotas: what the edges hold of each window.  The sum of `granted` never exceeds the quota.
CREATE TABLE quota (
    no           int NOT NULL REFERENCES tenant,
    name         text COLLATE "C" NOT NULL,     -- of the quota policy
    window_start timestamptz NOT NULL,
    ends_at      timestamptz NOT NULL,
    PRIMARY KEY (no, name, window_start)
);
CREATE INDEX quota_ends ON quota (ends_at);
CREATE TABLE quota_lease (
    no           int NOT NULL,
    name         text COLLATE "C" NOT NULL,
    window_start timestamptz NOT NULL,
    source       text COLLATE "C" NOT NULL,     -- who counts: an agent and its counters file
    used         bigint NOT NULL DEFAULT 0,
    granted      bigint NOT NULL DEFAULT 0,
    asked_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (no, name, window_start, source),
    FOREIGN KEY (no, name, window_start) REFERENCES quota ON DELETE CASCADE
);

-- Registries from before: the documents of tiers (a new registry gets them at its first start), then each
-- record anew with the name of its policy.
WITH head AS (UPDATE feed_head SET seq = seq + 1 RETURNING seq)
INSERT INTO feed (seq, version, document, body) SELECT seq, seq, 'policy/standard', '{}' FROM head;
WITH newest AS (
    SELECT DISTINCT ON (no) no, cell, version, record FROM feed WHERE no IS NOT NULL ORDER BY no, seq DESC),
again AS (
    INSERT INTO feed (seq, no, cell, version, record)
    SELECT h.seq + row_number() OVER (ORDER BY n.no), n.no, n.cell, n.version + 1,
           n.record || jsonb_build_object('policy', n.record->>'tier')
    FROM newest n CROSS JOIN feed_head h WHERE n.record IS NOT NULL RETURNING seq)
UPDATE feed_head SET seq = (SELECT max(seq) FROM again) WHERE EXISTS (SELECT FROM again);
