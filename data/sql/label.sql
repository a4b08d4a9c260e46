-- The label of tables that belong to no tenant.
\pset format unaligned
\set VERBOSITY terse
\c - postgres
CREATE TABLE public.countries (code text PRIMARY KEY);
CREATE VIEW public.some_countries AS SELECT * FROM public.countries;
SECURITY LABEL FOR bulkhead ON TABLE public.countries IS 'shared';
SELECT objoid::regclass, provider, label FROM pg_seclabel;
SECURITY LABEL FOR bulkhead ON TABLE public.countries IS 'other';
SECURITY LABEL FOR bulkhead ON COLUMN public.countries.code IS 'shared';
SECURITY LABEL FOR bulkhead ON VIEW public.some_countries IS 'shared';
SECURITY LABEL FOR bulkhead ON SCHEMA public IS 'shared';
-- not even the owner
CREATE ROLE bh_label_owner;
ALTER TABLE public.countries OWNER TO bh_label_owner;
SET ROLE bh_label_owner;
SECURITY LABEL FOR bulkhead ON TABLE public.countries IS NULL;
RESET ROLE;
SECURITY LABEL FOR bulkhead ON TABLE public.countries IS NULL;
SELECT count(*) FROM pg_seclabel;
DROP TABLE public.countries CASCADE;
DROP ROLE bh_label_owner;
