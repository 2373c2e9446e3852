-- The account by which Grafana reads PostgreSQL: figures and names of factories, and nothing of people.
-- As the owner of the database: psql carbontrack --file deploy/grafana/reader.sql
-- Then give it a password: ALTER ROLE carbontrack_reader PASSWORD '...'
-- It may be run again, and has to be after a restore with --replace.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'carbontrack_reader') THEN
        CREATE ROLE carbontrack_reader LOGIN;
    END IF;
END
$$;
ALTER ROLE carbontrack_reader SET default_transaction_read_only = on;
ALTER ROLE carbontrack_reader SET statement_timeout = '30s';
GRANT USAGE ON SCHEMA public TO carbontrack_reader;
GRANT SELECT ON factory, stack, tier_5min, hour, tier_day TO carbontrack_reader;
