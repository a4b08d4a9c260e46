-- Certificates of custom domains, as the edges get them.  The private key in `body` is sealed for this
-- name under the seal key of the tenant's cell: what lies here opens nothing without the master key.
CREATE TABLE certificate (
    name        text COLLATE "C" PRIMARY KEY, -- a domain, or *. and a domain
    no          int NOT NULL REFERENCES tenant,
    body        text NOT NULL,                -- document certificate/<name>
    names       jsonb NOT NULL,               -- that it covers
    issuer      text NOT NULL,
    key_type    text NOT NULL,
    fingerprint text NOT NULL,
    not_before  timestamptz NOT NULL,
    not_after   timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX certificate_no ON certificate (no, name);

-- A certificate is shown while it covers a domain of its tenant.
CREATE FUNCTION certificate_covers(certificate text, domain text) RETURNS boolean LANGUAGE sql IMMUTABLE
    RETURN certificate = domain
        OR (left(certificate, 2) = '*.' AND substr(certificate, 3) = substr(domain, strpos(domain, '.') + 1));
