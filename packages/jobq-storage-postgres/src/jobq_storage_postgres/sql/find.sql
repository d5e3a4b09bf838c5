-- Find jobs, newest first. Answers in each row how many jobs were looked at, the last one of them, and how many
-- matched; then a job without its payloads, or its id and arguments, or nothing. Large arguments are left out behind
-- the first 8 MiB of them.
-- $1 id to begin below; $2 how many jobs to look at, $3 how many to answer with; $4 added from when on, $5 added before
-- when; $6 worker, $7 type of the error, $8 a part of its message; $9 what to answer with: 'jobs', 'arguments' or
-- 'count'; $10 a part of `meta`. All but $2, $3 and $9 may be NULL; $6 to $8 are NULL here, and known to the other
-- statements.
WITH {span}, found AS MATERIALIZED (
    SELECT j.id, NULL::uuid AS worker, NULL::text AS error_type, NULL::text AS error_message
    FROM jobq.job j
    WHERE j.id < (SELECT high FROM span) AND j.id >= (SELECT low FROM span)
    ORDER BY j.id DESC
    LIMIT $2::bigint
), reach AS (
    SELECT NULL::uuid AS low WHERE false
), {page}
