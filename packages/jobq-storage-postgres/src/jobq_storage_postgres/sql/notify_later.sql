-- `notify` with several payloads, after some time in which the server gathers what commits: what is announced may be
-- committed by then.
-- pg_notify itself takes its lock at the commit, so nothing is held while this sleeps. $1 channel, $2 payloads,
-- $3 seconds.
WITH slept AS MATERIALIZED (
    SELECT pg_sleep($3::float8)
)
SELECT set_config('synchronous_commit', 'off', true), pg_notify($1::text, p.payload)
FROM slept, unnest($2::text[]) AS p(payload)
