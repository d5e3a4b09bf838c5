-- The tables of jobq. A job's state is the table that holds its token: see the package's README.
--
-- In these files `jobq.` stands for the schema that was configured; it is replaced as they are read.

-- All time comes from here, so that a test can move the clock of its own schema. It is inlined, and costs nothing.
CREATE FUNCTION jobq.clock() RETURNS timestamptz
    LANGUAGE sql VOLATILE PARALLEL SAFE
    AS 'SELECT pg_catalog.clock_timestamp()';

-- CACHE 1 is needed: a number drawn later must be greater, whichever session draws it.
CREATE SEQUENCE jobq.position AS bigint CACHE 1;
CREATE SEQUENCE jobq.lease AS bigint CACHE 1;

-- What was asked: written once, never updated.
CREATE TABLE jobq.job (
    id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    run_at timestamptz,
    deadline timestamptz,
    timeout double precision,
    priority smallint NOT NULL CHECK (priority BETWEEN -9 AND 9),
    max_attempts smallint NOT NULL CHECK (max_attempts >= 1),
    queue text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    arguments json NOT NULL,
    backoff json,
    unique_key text COLLATE "C",
    run_id text COLLATE "C",
    tags text[] COLLATE "C",
    fingerprint bytea,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX job_run ON jobq.job (run_id, id) WHERE run_id IS NOT NULL;
CREATE INDEX job_fingerprint ON jobq.job (fingerprint, id) WHERE fingerprint IS NOT NULL;
CREATE TABLE jobq.job_default PARTITION OF jobq.job DEFAULT;

-- SCHEDULED, BLOCKED and DISABLED jobs. Position: of those that are due at one moment, the first to come is the first.
CREATE TABLE jobq.waiting (
    id uuid PRIMARY KEY,
    position bigint NOT NULL,
    run_at timestamptz,
    started_at timestamptz,
    lease bigint,
    worker uuid,
    priority smallint NOT NULL,
    attempt smallint NOT NULL,
    keyed boolean NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('scheduled', 'blocked', 'disabled')),
    queue text COLLATE "C" NOT NULL,
    reason text,
    settled text COLLATE "C",
    percent double precision,
    message text,
    details json,
    error_type text,
    error_message text,
    error_traceback text
) WITH (
    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.1, autovacuum_analyze_threshold = 5000
);
CREATE INDEX waiting_due ON jobq.waiting (run_at, position) WHERE state <> 'disabled';
CREATE INDEX waiting_blocked ON jobq.waiting (queue) WHERE state = 'blocked';

-- PENDING jobs: all that claiming reads. Never updated, so that a row's position is where it always was.
CREATE TABLE jobq.ready (
    id uuid PRIMARY KEY,
    position bigint NOT NULL,
    run_at timestamptz,
    started_at timestamptz,
    lease bigint,
    worker uuid,
    priority smallint NOT NULL,
    attempt smallint NOT NULL,
    keyed boolean NOT NULL,
    queue text COLLATE "C" NOT NULL,
    reason text,
    settled text COLLATE "C",
    percent double precision,
    message text,
    details json
) WITH (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.1, autovacuum_analyze_threshold = 5000
);
CREATE INDEX ready_line ON jobq.ready (queue, priority, position);

-- PROCESSING jobs. Progress, requests and `begun` (the run was noted to begin) update columns that no index has, in the
-- room that fillfactor leaves.
CREATE TABLE jobq.running (
    id uuid PRIMARY KEY,
    lease bigint NOT NULL,
    started_at timestamptz NOT NULL,
    run_at timestamptz,
    worker uuid NOT NULL,
    priority smallint NOT NULL,
    attempt smallint NOT NULL,
    keyed boolean NOT NULL,
    begun boolean NOT NULL DEFAULT false,
    queue text COLLATE "C" NOT NULL,
    request text COLLATE "C" CHECK (request IN ('abort', 'disable')),
    percent double precision,
    message text,
    details json
) WITH (
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000
);

-- COMPLETED, FAILED and ABORTED jobs: written once, never updated.
CREATE TABLE jobq.outcome (
    id uuid NOT NULL,
    finished_at timestamptz NOT NULL,
    started_at timestamptz,
    run_at timestamptz,
    lease bigint,
    worker uuid,
    attempt smallint NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('completed', 'failed', 'aborted')),
    queue text COLLATE "C" NOT NULL,
    settled text COLLATE "C",
    reason text,
    result json,
    percent double precision,
    message text,
    details json,
    error_type text,
    error_message text,
    error_traceback text,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
-- Retention looks for the oldest of a queue and state; they arrive in this order, so that it grows at its ends.
CREATE INDEX outcome_age ON jobq.outcome (queue, state, finished_at);
-- The dead letters among millions of completed jobs.
CREATE INDEX outcome_trouble ON jobq.outcome (state, id) WHERE state <> 'completed';
CREATE TABLE jobq.outcome_default PARTITION OF jobq.outcome DEFAULT;

-- Runs that did not complete.
CREATE TABLE jobq.attempt (
    job uuid NOT NULL,
    lease bigint NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz NOT NULL,
    worker uuid,
    number smallint NOT NULL,
    error_type text NOT NULL,
    error_message text NOT NULL,
    error_traceback text,
    PRIMARY KEY (job, lease)
);

-- The unique keys of jobs that have not finished.
CREATE TABLE jobq.unique_key (
    job uuid NOT NULL,
    queue text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    PRIMARY KEY (queue, key)
) WITH (
    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX unique_key_job ON jobq.unique_key (job);

CREATE TABLE jobq.worker (
    id uuid PRIMARY KEY,
    started_at timestamptz NOT NULL,
    beat_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    lost_after double precision NOT NULL,
    pid integer NOT NULL,
    concurrency integer NOT NULL,
    name text NOT NULL,
    host text NOT NULL,
    queues text[] NOT NULL,
    kinds text[] NOT NULL,
    stats json NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Who does the maintenance; always one row. `installation` tells this schema from others of the same name.
CREATE TABLE jobq.maintenance (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    worker uuid,
    expires_at timestamptz,
    installation uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid()
) WITH (fillfactor = 50);
INSERT INTO jobq.maintenance DEFAULT VALUES;

-- How many seconds a queue keeps its finished jobs; NULL is for ever. A queue that is not here keeps them by default.
CREATE TABLE jobq.queue (
    name text COLLATE "C" PRIMARY KEY,
    completed double precision CHECK (completed BETWEEN 0 AND 1e10),
    failed double precision CHECK (failed BETWEEN 0 AND 1e10),
    aborted double precision CHECK (aborted BETWEEN 0 AND 1e10)
);

-- How many finished jobs there are: whatever adds or removes outcomes adds a row with the difference, in the same
-- statement, and maintenance sums them up. So counting does not read millions of outcomes.
CREATE TABLE jobq.tally (
    jobs bigint NOT NULL,
    queue text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- Positions up to which claims may have stopped looking although a transaction could still add a lower one; `horizon`
-- is the first transaction that no longer could. Maintenance gives a new position to whatever turns up below.
CREATE TABLE jobq.skipped (
    position bigint NOT NULL,
    horizon xid8 NOT NULL,
    priority smallint NOT NULL,
    queue text COLLATE "C" NOT NULL,
    PRIMARY KEY (queue, priority)
);

-- Where each job is, whatever its state.
CREATE VIEW jobq.job_state AS
    SELECT id, state, queue, priority, attempt, keyed, run_at, worker, lease, settled, started_at,
        NULL::timestamptz AS finished_at, NULL::text AS request, reason, percent, message, details,
        NULL::json AS result, error_type, error_message, error_traceback
    FROM jobq.waiting
    UNION ALL
    SELECT id, 'pending', queue, priority, attempt, keyed, run_at, worker, lease, settled, started_at,
        NULL, NULL, reason, percent, message, details, NULL, NULL, NULL, NULL
    FROM jobq.ready
    UNION ALL
    SELECT id, 'processing', queue, priority, attempt, keyed, run_at, worker, lease, NULL, started_at,
        NULL, request, NULL, percent, message, details, NULL, NULL, NULL, NULL
    FROM jobq.running
    UNION ALL
    SELECT id, state, queue, NULL, attempt, NULL, run_at, worker, lease, settled, started_at,
        finished_at, NULL, reason, percent, message, details, result, error_type, error_message, error_traceback
    FROM jobq.outcome;

-- What was asked and what came of it lie in partitions of a week each, by the time that the first bits of an id (UUIDv7) tell.
-- Once a partition is over, the few jobs still in it go to the default partition and its space is given back at once.
-- The functions are the owner's, so that whoever may use the tables can do the maintenance. They wait for locks only so
-- long that nobody else who comes after them does. The first lock lets one at a time look and act, and no reader or writer
-- meets it; the partitions are left out of it (ONLY), since they may be vacuumed meanwhile. They run with the owner's rights: pg_temp is named, since it would
-- come first otherwise, and a caller's temporary table called pg_class would be taken for the real one.

CREATE FUNCTION jobq.first_id_of(day date) RETURNS uuid
    LANGUAGE sql IMMUTABLE
    AS $$
        SELECT (lpad(to_hex((extract(epoch FROM day) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
    $$;

-- Make the partitions of this week and of so many ahead; returns how many were missing.
-- Not where the default partition holds jobs of that week already, nor where it is large: it is read meanwhile.
CREATE FUNCTION jobq.make_partitions(ahead integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '200ms'
    AS $$
        DECLARE
            home text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'jobq.job'::regclass);
            monday date := date_trunc('week', jobq.clock() AT TIME ZONE 'UTC')::date;
            kept text;
            low uuid;
            high uuid;
            made integer := 0;
        BEGIN
            LOCK TABLE ONLY jobq.job IN SHARE UPDATE EXCLUSIVE MODE;
            IF pg_relation_size('jobq.job_default') + pg_relation_size('jobq.outcome_default') > 128 * 1024 * 1024 THEN
                RETURN 0;
            END IF;
            FOR week IN 0..ahead LOOP
                low := jobq.first_id_of(monday + 7 * week);
                high := jobq.first_id_of(monday + 7 * week + 7);
                FOREACH kept IN ARRAY ARRAY['job', 'outcome'] LOOP
                    CONTINUE WHEN to_regclass(format('%s.%I', home, kept || to_char(monday + 7 * week, '_YYYYMMDD'))) IS NOT NULL;
                    CONTINUE WHEN EXISTS (SELECT FROM jobq.job_default j WHERE j.id >= low AND j.id < high);
                    EXECUTE format(
                        'CREATE TABLE %s.%I PARTITION OF %1$s.%3$I FOR VALUES FROM (%4$L) TO (%5$L)',
                        home, kept || to_char(monday + 7 * week, '_YYYYMMDD'), kept, low, high
                    );
                    made := made + 1;
                END LOOP;
            END LOOP;
            RETURN made;
        END
    $$;

-- Drop the partitions that ended so long ago and hold at most so many jobs yet, which go to the default partition.
CREATE FUNCTION jobq.drop_partitions(age interval, most integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '200ms'
    AS $$
        DECLARE
            home text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'jobq.job'::regclass);
            suffix text;
            there boolean;
            left_over integer;
            dropped integer := 0;
        BEGIN
            LOCK TABLE ONLY jobq.job IN SHARE UPDATE EXCLUSIVE MODE;
            FOR suffix IN
                SELECT substr(c.relname, 4)
                FROM pg_inherits i
                JOIN pg_class c ON c.oid = i.inhrelid
                WHERE i.inhparent = 'jobq.job'::regclass AND c.relname ~ '^job_\d{8}$'
                    AND (to_date(substr(c.relname, 5), 'YYYYMMDD') + 7)::timestamp AT TIME ZONE 'UTC' < jobq.clock() - age
                ORDER BY c.relname
            LOOP
                EXECUTE format('SELECT count(*) FROM (SELECT FROM %s.%I LIMIT %s) few', home, 'job' || suffix, most + 1)
                    INTO left_over;
                CONTINUE WHEN left_over > most;
                there := to_regclass(format('%s.%I', home, 'outcome' || suffix)) IS NOT NULL;
                EXECUTE format('ALTER TABLE %s.job DETACH PARTITION %1$s.%2$I', home, 'job' || suffix);
                EXECUTE format('INSERT INTO %s.job SELECT * FROM %1$s.%2$I', home, 'job' || suffix);
                EXECUTE format('DROP TABLE %s.%I', home, 'job' || suffix);
                IF there THEN
                    EXECUTE format('ALTER TABLE %s.outcome DETACH PARTITION %1$s.%2$I', home, 'outcome' || suffix);
                    EXECUTE format('INSERT INTO %s.outcome SELECT * FROM %1$s.%2$I', home, 'outcome' || suffix);
                    EXECUTE format('DROP TABLE %s.%I', home, 'outcome' || suffix);
                END IF;
                dropped := dropped + 1;
            END LOOP;
            RETURN dropped;
        END
    $$;

-- Tell the planner of a bulk load.
CREATE FUNCTION jobq.analyze() RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$ ANALYZE jobq.waiting, jobq.ready $$;

-- Everybody may run a new function unless told otherwise: these act for the owner, so who may is the owner's to say.
REVOKE ALL ON FUNCTION jobq.make_partitions(integer), jobq.drop_partitions(interval, integer), jobq.analyze() FROM PUBLIC;

SELECT jobq.make_partitions(1);
