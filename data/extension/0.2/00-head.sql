-- The extension `bulkhead`, from version 0.1 to 0.2. CREATE EXTENSION runs both scripts, ALTER EXTENSION UPDATE this one.
\echo Use "ALTER EXTENSION bulkhead UPDATE" to load this file. \quit

