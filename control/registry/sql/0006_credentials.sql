-- Who vouches for people: issuers of tokens, API keys.  Both become documents of the feed.

CREATE TABLE issuer (
    name       text COLLATE "C" PRIMARY KEY,
    settings   jsonb NOT NULL,              -- as people wrote it
    keys       jsonb,                       -- JWK set: given with the settings, or the last good one that was fetched
    generation bigint NOT NULL DEFAULT 1,
    fetched_at timestamptz,
    next_at    timestamptz,                 -- of the next fetch; NULL: its keys are given
    error      text,                        -- of the last try, NULL where it went well
    failures   int NOT NULL DEFAULT 0,      -- in a row
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX issuer_due ON issuer (next_at) WHERE next_at IS NOT NULL;

CREATE TABLE api_key (
    id         text COLLATE "C" PRIMARY KEY, -- "key_" and a ULID
    no         int NOT NULL REFERENCES tenant,
    name       text NOT NULL,
    prefix     text NOT NULL,                -- "bhk_" and a prefix, what may be shown
    digest     bytea NOT NULL UNIQUE,        -- SHA-256 of the key, which is stored nowhere
    cell       text NOT NULL,                -- whose document it is
    document   text NOT NULL,
    sub        text NOT NULL,
    scope      text NOT NULL,
    roles      jsonb NOT NULL,
    not_after  timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX api_key_no ON api_key (no, id);
