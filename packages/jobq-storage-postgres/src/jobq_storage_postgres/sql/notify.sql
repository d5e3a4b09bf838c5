-- Notify other processes. Polling finds what a lost notification announced, so this does not wait for a flush.
-- $1 channel, $2 payload.
SELECT set_config('synchronous_commit', 'off', true), pg_notify($1::text, $2::text)
