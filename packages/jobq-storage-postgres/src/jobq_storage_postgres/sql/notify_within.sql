-- Notify from within a transaction of the caller, when it commits. The caller decides how durable that commit is, so
-- nothing is set here. $1 channel, $2 payloads.
SELECT pg_catalog.pg_notify($1::text, p.payload)
FROM pg_catalog.unnest($2::text[]) AS p(payload)
