-- List the sequences of jobq with the share that is used up; NULL where this role may not see it.
SELECT s.sequencename, s.last_value::float8 / s.max_value
FROM pg_sequences s
WHERE to_regnamespace(quote_ident(s.schemaname)) = (
    SELECT relnamespace FROM pg_class WHERE oid = 'jobq.job'::regclass
)
