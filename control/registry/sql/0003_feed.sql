-- The feed keeps what a reader needs: rows that a newer one of the same tenant replaces go after a day,
-- tombstones of tenants that are gone after a month (control/registry/feed.c).
-- Up to ${pruned} a tombstone may be missing: who has read less takes the snapshot.
ALTER TABLE feed_head ADD COLUMN pruned bigint NOT NULL DEFAULT 0;
