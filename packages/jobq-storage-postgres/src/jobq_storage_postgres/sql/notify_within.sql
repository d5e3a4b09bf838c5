-- Ring within somebody's own transaction, heard when it commits. $1 channel, $2 payloads. How durable that commit is, is
-- theirs to say: nothing is set here.
SELECT pg_notify($1::text, p.payload)
FROM unnest($2::text[]) AS p(payload)
