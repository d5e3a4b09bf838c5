-- Ring for other processes. $1 channel, $2 payloads. Nothing is lost that polling would not find: no flush is waited for.
SELECT set_config('synchronous_commit', 'off', true), pg_notify($1::text, p.payload)
FROM unnest($2::text[]) AS p(payload)
