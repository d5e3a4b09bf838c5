-- The tables of jobq. The state of a job is the table that holds its row: see the package's README.
--
-- In these files `jobq.` stands for the configured schema, which replaces it when a file is read.
--
-- Domains refuse values that the statements could not handle, such as infinite times, when rows are edited by hand.
-- They are used only where they cost nothing. In `job` and `ready` they would take a tenth of the time of a lone add,
-- and a row that is accepted there must not be refused by `running`, `waiting` or `outcome` later. Python's datetimes
-- have the years 1 to 9999.
CREATE DOMAIN jobq.moment AS timestamptz
    CHECK (VALUE BETWEEN '0001-01-01 00:00Z' AND '9999-12-31 23:59:59.999999Z');
CREATE DOMAIN jobq.seconds AS double precision CHECK (VALUE BETWEEN 0 AND 1e10);
CREATE DOMAIN jobq.names AS text[] COLLATE "C" CHECK (array_ndims(VALUE) = 1 AND array_position(VALUE, NULL) IS NULL);

-- The only source of time, so that a test can move the clock of its own schema. It is inlined, and costs nothing.
CREATE FUNCTION jobq.clock() RETURNS timestamptz
    LANGUAGE sql VOLATILE PARALLEL SAFE
    AS 'SELECT pg_catalog.clock_timestamp()';

-- CACHE 1 is required: a number that is drawn later must be greater, in all sessions.
CREATE SEQUENCE jobq.position AS bigint CACHE 1;
CREATE SEQUENCE jobq.lease AS bigint CACHE 1;

-- What was added: written once, never updated. follow_up: what follows if the job fails.
CREATE TABLE jobq.job (
    id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    run_at timestamptz,
    deadline timestamptz,
    timeout double precision,
    priority smallint NOT NULL CHECK (abs(priority) <= 100),
    max_attempts smallint NOT NULL,
    flags smallint NOT NULL DEFAULT 0,
    queue text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    arguments json NOT NULL,
    meta json,
    backoff json,
    unique_key text COLLATE "C",
    run_id text COLLATE "C",
    tags text[] COLLATE "C",
    fingerprint bytea,
    follow_up json,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
CREATE INDEX job_run ON jobq.job (run_id, id) WHERE run_id IS NOT NULL;
CREATE INDEX job_fingerprint ON jobq.job (fingerprint, id) WHERE fingerprint IS NOT NULL;
CREATE TABLE jobq.job_default PARTITION OF jobq.job DEFAULT;

-- The tags of jobs that have some.
CREATE TABLE jobq.job_tag (
    id uuid NOT NULL,
    tag text COLLATE "C" NOT NULL,
    PRIMARY KEY (id, tag)
);
CREATE INDEX job_tag_tag ON jobq.job_tag (tag, id);

-- The token of an unfinished job is its row in `waiting`, `ready` or `running`. Every statement that moves a token
-- carries these columns, and those that it does not know:
--   deadline, kind: copies of the job's. queue, priority: as well, until an operator changes them.
--   size: the bytes of the job's arguments, so that a claim need not read them to know.
--   flags: bits. 1: gated, the job goes to `waiting` instead of `ready`. 2: followed, its ending leaves a row in `ended`.
--     4: it has a `follow_up`, and becoming FAILED leaves a row in `ended`.
--   extra: an object for what has no column yet: `refused`, the declarations that refused the job, and `priority`, if an
--     operator changed it.
--   since: when the job entered its present state; for a running job, `started_at`.

-- SCHEDULED, BLOCKED and DISABLED jobs. Jobs that are due at the same time are promoted by position.
CREATE TABLE jobq.waiting (
    id uuid PRIMARY KEY,
    position bigint NOT NULL,
    since timestamptz NOT NULL,
    run_at timestamptz,
    started_at timestamptz,
    deadline timestamptz,
    lease bigint,
    worker uuid,
    size integer NOT NULL,
    priority smallint NOT NULL,
    attempt smallint NOT NULL,
    flags smallint NOT NULL,
    keyed boolean NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('scheduled', 'blocked', 'disabled')),
    queue text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    reason text COLLATE "C",
    settled text COLLATE "C",
    percent double precision,
    message text,
    details json,
    extra jsonb,
    error_type text,
    error_message text,
    error_traceback text
) WITH (
    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.1, autovacuum_analyze_threshold = 5000
);
CREATE INDEX waiting_due ON jobq.waiting (run_at, position) WHERE state <> 'disabled';
CREATE INDEX waiting_queue ON jobq.waiting (queue, state, id);
CREATE INDEX waiting_deadline ON jobq.waiting (deadline) WHERE deadline IS NOT NULL AND state <> 'disabled';
-- The jobs that were disabled after an error, for a search.
CREATE INDEX waiting_error ON jobq.waiting (id) WHERE error_type IS NOT NULL;
-- The jobs that wait for a worker that can run them.
CREATE INDEX waiting_unfit ON jobq.waiting (queue, kind, id)
    WHERE state = 'blocked' AND reason IN ('unknown kind', 'arguments do not fit');

-- PENDING jobs: claims read only this table. Never updated, so that a row keeps its position. A queue's jobs form lines,
-- one per rank: 101 is the line of returned jobs, which is claimed first; the other ranks are priorities.
CREATE TABLE jobq.ready (
    id uuid PRIMARY KEY,
    position bigint NOT NULL,
    since timestamptz NOT NULL,
    run_at timestamptz,
    started_at timestamptz,
    deadline timestamptz,
    lease bigint,
    worker uuid,
    size integer NOT NULL,
    rank smallint NOT NULL,
    priority smallint NOT NULL,
    attempt smallint NOT NULL,
    flags smallint NOT NULL,
    keyed boolean NOT NULL,
    queue text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    reason text,
    settled text COLLATE "C",
    percent double precision,
    message text,
    details json,
    extra jsonb
) WITH (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0.1, autovacuum_analyze_threshold = 5000
);
CREATE INDEX ready_line ON jobq.ready (queue, rank, position);
CREATE INDEX ready_deadline ON jobq.ready (deadline) WHERE deadline IS NOT NULL;

-- The lines that were ever used, so that claims look at no others. A line is registered before its first job becomes
-- visible. Two transactions may register the same one: a unique index would let one wait for the other.
-- registered: the transaction, by which claims find the lines that are new to them. A queue that was ever paused has a
-- row without a rank, which is written again whenever it is paused or resumed, so that claims find that too.
CREATE TABLE jobq.line (
    registered xid8 NOT NULL DEFAULT pg_current_xact_id(),
    rank smallint,
    queue text COLLATE "C" NOT NULL
);
CREATE INDEX line_queue ON jobq.line (queue, rank);
CREATE INDEX line_registered ON jobq.line (registered);

-- PROCESSING jobs. Progress, requests and `begun` (the run is marked as started) update columns that no index has, in
-- the space that fillfactor leaves. pending_since: when the job became PENDING.
CREATE TABLE jobq.running (
    id uuid PRIMARY KEY,
    lease bigint NOT NULL,
    started_at timestamptz NOT NULL,
    pending_since timestamptz NOT NULL,
    run_at timestamptz,
    deadline timestamptz,
    worker uuid NOT NULL,
    size integer NOT NULL,
    priority smallint NOT NULL,
    attempt smallint NOT NULL,
    flags smallint NOT NULL,
    keyed boolean NOT NULL,
    begun boolean NOT NULL DEFAULT false,
    queue text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    request text COLLATE "C" CHECK (request IN ('abort', 'disable')),
    percent double precision,
    message text,
    details json,
    extra jsonb
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
    flags smallint NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('completed', 'failed', 'aborted')),
    queue text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    settled text COLLATE "C",
    reason text,
    result json,
    percent double precision,
    message text,
    details json,
    extra jsonb,
    error_type text,
    error_message text,
    error_traceback text,
    PRIMARY KEY (id)
) PARTITION BY RANGE (id);
-- `find` and pruning look for the newest and the oldest jobs of a queue, kind and state; `tally` has a row for each of
-- these that occurs. By the hash of the three: their texts would take twice the time of each completion.
CREATE INDEX outcome_line ON jobq.outcome ((hashtext(queue) # hashtext(kind || state)), id);
-- The dead letters among millions of completed jobs.
CREATE INDEX outcome_trouble ON jobq.outcome (state, id) WHERE state <> 'completed';
CREATE TABLE jobq.outcome_default PARTITION OF jobq.outcome DEFAULT;

-- Runs that failed.
CREATE TABLE jobq.attempt (
    job uuid NOT NULL,
    lease bigint NOT NULL,
    started_at jobq.moment NOT NULL,
    finished_at jobq.moment NOT NULL,
    worker uuid,
    number smallint NOT NULL,
    error_type text NOT NULL,
    error_message text NOT NULL,
    error_traceback text,
    PRIMARY KEY (job, lease)
);

-- What handlers logged, the lines of a run since the row before. `part` counts within the run.
CREATE TABLE jobq.job_log (
    job uuid NOT NULL,
    lease bigint NOT NULL,
    at jobq.moment NOT NULL,
    part integer NOT NULL,
    attempt integer NOT NULL,
    lines json NOT NULL,
    PRIMARY KEY (job, lease, part)
) PARTITION BY RANGE (job);
CREATE TABLE jobq.job_log_default PARTITION OF jobq.job_log DEFAULT;

-- The unique keys and their jobs. A key is held while its job is unfinished or, if `until` is set, until then: the end of
-- the job leaves such a key.
CREATE TABLE jobq.unique_key (
    job uuid NOT NULL,
    until timestamptz,
    queue text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    PRIMARY KEY (queue, key)
) WITH (
    autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0
);
CREATE INDEX unique_key_job ON jobq.unique_key (job);

CREATE TABLE jobq.worker (
    id uuid PRIMARY KEY,
    started_at jobq.moment NOT NULL,
    beat_at jobq.moment NOT NULL,
    expires_at jobq.moment NOT NULL,
    lost_after jobq.seconds NOT NULL,
    pid integer NOT NULL,
    concurrency integer NOT NULL,
    name text NOT NULL,
    host text NOT NULL,
    queues jobq.names NOT NULL,
    kinds jobq.names NOT NULL,
    stats json NOT NULL DEFAULT '{}',
    versions json NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- The worker that leads the maintenance; always one row. `installation` distinguishes this schema from others of the
-- same name.
CREATE TABLE jobq.maintenance (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    worker uuid,
    expires_at jobq.moment,
    installation uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid()
) WITH (fillfactor = 50);
INSERT INTO jobq.maintenance DEFAULT VALUES;

-- The followed jobs that ended, until `resolve` takes them. state: NULL if the job was deleted. failed: for a job with a
-- follow-up that failed, what the follow-up is made of, whatever is done to the job later.
CREATE TABLE jobq.ended (
    id uuid NOT NULL,
    at timestamptz NOT NULL,
    queue text COLLATE "C" NOT NULL,
    state text COLLATE "C",
    failed json
);
CREATE INDEX ended_at ON jobq.ended (at);

-- What `ended` keeps of a failed job. A function, so that the statements that end jobs do not plan and lock `job` for it.
CREATE FUNCTION jobq.failed_job(
    failed uuid, queue text, error_type text, error_message text, error_traceback text
) RETURNS json
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
        BEGIN
            RETURN (
                SELECT json_build_object(
                    'id', j.id, 'queue', failed_job.queue, 'kind', j.kind, 'arguments', j.arguments,
                    'follow_up', j.follow_up, 'meta', j.meta, 'run_id', j.run_id,
                    'error', CASE WHEN error_type IS NOT NULL THEN
                        json_build_object('type', error_type, 'message', error_message, 'traceback', error_traceback)
                    END
                )
                FROM jobq.job j
                WHERE j.id = failed
            );
        END
    $$;

-- The options of queues. Claims take nothing from a queue while it is paused. completed, failed, aborted: how many
-- seconds finished jobs are kept, NULL without limit; without `has_retention` the defaults hold.
CREATE TABLE jobq.queue (
    name text COLLATE "C" PRIMARY KEY,
    paused_at timestamptz,
    paused_by text,
    owner text COLLATE "C" CHECK (owner IN ('operator', 'worker')),
    has_retention boolean NOT NULL DEFAULT false,
    completed jobq.seconds,
    failed jobq.seconds,
    aborted jobq.seconds
);

-- The numbers of finished jobs, and the statistics that are not summed up yet: each statement that moves jobs to a state
-- adds rows, and maintenance sums them up (`at` is NULL then). So counting does not read millions of outcomes.
-- finished: the difference in the number of finished jobs. jobs: how many came to this state; the other columns leave
-- out jobs that ended without a run. waited, ran: seconds, in sum. buckets: for each run 128 * the bucket of the time
-- waited + that of the time run.
CREATE TABLE jobq.tally (
    at timestamptz,
    finished bigint NOT NULL,
    jobs bigint NOT NULL DEFAULT 0,
    waited double precision,
    ran double precision,
    queue text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    buckets smallint[]
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);

-- Tables without a primary key: with a publication FOR ALL TABLES, they would refuse DELETE.
ALTER TABLE jobq.tally REPLICA IDENTITY FULL;

-- The statistics of each minute, of each ten minutes and of each hour, summed up from `tally`; the rows of one key add
-- up. step: its length in seconds. queue, kind: '' for all together, which a chart of weeks reads. The histograms are objects: by bucket, its number of jobs. As JSON, thousands of them
-- are read at once, without a conversion.
CREATE TABLE jobq.statistic (
    start timestamptz NOT NULL,
    jobs bigint NOT NULL,
    waited double precision NOT NULL,
    ran double precision NOT NULL,
    step integer NOT NULL CHECK (step IN (60, 600, 3600)),
    queue text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL,
    waiting json NOT NULL CHECK (json_typeof(waiting) = 'object'),
    running json NOT NULL CHECK (json_typeof(running) = 'object')
);
CREATE INDEX statistic_start ON jobq.statistic (step, start);
CREATE INDEX statistic_together ON jobq.statistic (step, start) WHERE queue = '';
ALTER TABLE jobq.statistic REPLICA IDENTITY FULL;
ALTER TABLE jobq.ended REPLICA IDENTITY FULL;
ALTER TABLE jobq.line REPLICA IDENTITY FULL;

-- How many unfinished jobs there were of each queue and state at the last sample; one row, or none yet. The arrays have an
-- element for each pair that had jobs. oldest: since when the job that was longest in the state was in it.
CREATE TABLE jobq.depth (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    at jobq.moment NOT NULL,
    due_at jobq.moment NOT NULL,
    queues jobq.names NOT NULL,
    states jobq.names NOT NULL,
    jobs bigint[] NOT NULL,
    oldest timestamptz[] NOT NULL
) WITH (fillfactor = 50);

-- Of the steps that are over, the last sample of each. step: its length in seconds.
CREATE TABLE jobq.depth_point (
    start jobq.moment NOT NULL,
    at jobq.moment NOT NULL,
    step integer NOT NULL CHECK (step IN (60, 600, 3600)),
    queues jobq.names NOT NULL,
    states jobq.names NOT NULL,
    jobs bigint[] NOT NULL,
    oldest timestamptz[] NOT NULL,
    PRIMARY KEY (step, start)
);

-- The bulk operations of operators: what to do with the jobs that match `filter` and whose ids are below `before`, and how
-- far that is. cursor: the last job that was worked on.
CREATE TABLE jobq.operation (
    id uuid PRIMARY KEY,
    before uuid NOT NULL,
    cursor uuid,
    created_at jobq.moment NOT NULL,
    worked_at jobq.moment,
    finished_at jobq.moment,
    matched bigint,
    done bigint NOT NULL,
    changed bigint NOT NULL,
    refused bigint NOT NULL,
    action text COLLATE "C" NOT NULL CHECK (
        action IN ('abort', 'retry', 'disable', 'enable', 'delete', 'run-now', 'reschedule', 'move', 'priority')
    ),
    value text,
    filter json NOT NULL CHECK (json_typeof(filter) = 'object'),
    actor text NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('running', 'done', 'cancelled')),
    error text
) WITH (fillfactor = 80);
CREATE INDEX operation_running ON jobq.operation (id) WHERE state = 'running';

-- What operators did.
CREATE TABLE jobq.audit (
    id uuid PRIMARY KEY,
    at jobq.moment NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    target text COLLATE "C" NOT NULL,
    details json
);
CREATE INDEX audit_target ON jobq.audit (target, id);
CREATE INDEX audit_at ON jobq.audit (at);

-- What operators asked workers to do, and the answers.
CREATE TABLE jobq.worker_request (
    id uuid PRIMARY KEY,
    worker uuid NOT NULL,
    job uuid,
    asked_at jobq.moment NOT NULL,
    answered_at jobq.moment,
    action text COLLATE "C" NOT NULL CHECK (action IN ('drain', 'stack')),
    actor text NOT NULL,
    answer text
);
CREATE INDEX worker_request_worker ON jobq.worker_request (worker);

-- The bucket of a duration, as `jobq_core.storage.bucket_of`. It is inlined, and its array made once for each plan: a
-- logarithm would take three times as long.
CREATE FUNCTION jobq.bucket(duration interval) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS $$ SELECT width_bucket(duration, ARRAY[
        make_interval(secs => 0.001415), make_interval(secs => 0.002), make_interval(secs => 0.002829),
        make_interval(secs => 0.004), make_interval(secs => 0.005657), make_interval(secs => 0.008),
        make_interval(secs => 0.011314), make_interval(secs => 0.016), make_interval(secs => 0.022628),
        make_interval(secs => 0.032), make_interval(secs => 0.045255), make_interval(secs => 0.064),
        make_interval(secs => 0.09051), make_interval(secs => 0.128), make_interval(secs => 0.18102),
        make_interval(secs => 0.256), make_interval(secs => 0.362039), make_interval(secs => 0.512),
        make_interval(secs => 0.724078), make_interval(secs => 1.024), make_interval(secs => 1.448155),
        make_interval(secs => 2.048), make_interval(secs => 2.89631), make_interval(secs => 4.096),
        make_interval(secs => 5.792619), make_interval(secs => 8.192), make_interval(secs => 11.585238),
        make_interval(secs => 16.384), make_interval(secs => 23.170476), make_interval(secs => 32.768),
        make_interval(secs => 46.340951), make_interval(secs => 65.536), make_interval(secs => 92.681901),
        make_interval(secs => 131.072), make_interval(secs => 185.363801), make_interval(secs => 262.144),
        make_interval(secs => 370.727601), make_interval(secs => 524.288), make_interval(secs => 741.455201),
        make_interval(secs => 1048.576), make_interval(secs => 1482.910401), make_interval(secs => 2097.152),
        make_interval(secs => 2965.820801), make_interval(secs => 4194.304), make_interval(secs => 5931.641602),
        make_interval(secs => 8388.608), make_interval(secs => 11863.283204), make_interval(secs => 16777.216),
        make_interval(secs => 23726.566407), make_interval(secs => 33554.432), make_interval(secs => 47453.132813),
        make_interval(secs => 67108.864), make_interval(secs => 94906.265625), make_interval(secs => 134217.728),
        make_interval(secs => 189812.531249), make_interval(secs => 268435.456), make_interval(secs => 379625.062498),
        make_interval(secs => 536870.912), make_interval(secs => 759250.124995), make_interval(secs => 1073741.824),
        make_interval(secs => 1518500.249989), make_interval(secs => 2147483.648),
        make_interval(secs => 3037000.499977), make_interval(secs => 4294967.296),
        make_interval(secs => 6074000.999953), make_interval(secs => 8589934.592),
        make_interval(secs => 12148001.999905), make_interval(secs => 17179869.184),
        make_interval(secs => 24296003.999809), make_interval(secs => 34359738.368),
        make_interval(secs => 48592007.999617), make_interval(secs => 68719476.736),
        make_interval(secs => 97184015.999234), make_interval(secs => 137438953.472),
        make_interval(secs => 194368031.998468), make_interval(secs => 274877906.944),
        make_interval(secs => 388736063.996935), make_interval(secs => 549755813.888),
        make_interval(secs => 777472127.993869), make_interval(secs => 1099511627.776),
        make_interval(secs => 1554944255.987738), make_interval(secs => 2199023255.552),
        make_interval(secs => 3109888511.975475), make_interval(secs => 4398046511.104),
        make_interval(secs => 6219777023.95095), make_interval(secs => 8796093022.208),
        make_interval(secs => 12439554047.901899), make_interval(secs => 17592186044.416),
        make_interval(secs => 24879108095.803799), make_interval(secs => 35184372088.832001),
        make_interval(secs => 49758216191.607597), make_interval(secs => 70368744177.664001),
        make_interval(secs => 99516432383.215195), make_interval(secs => 140737488355.328003),
        make_interval(secs => 199032864766.430389), make_interval(secs => 281474976710.656006),
        make_interval(secs => 398065729532.860779), make_interval(secs => 562949953421.312012),
        make_interval(secs => 796131459065.721558), make_interval(secs => 1125899906842.624023),
        make_interval(secs => 1592262918131.443115), make_interval(secs => 2251799813685.248047),
        make_interval(secs => 3184525836262.88623), make_interval(secs => 4503599627370.496094)
    ]) $$;

-- Positions that claims skip although a transaction could still add a lower one; `horizon` is the first transaction
-- that no longer can. Maintenance gives a new position to jobs that appear below.
CREATE TABLE jobq.skipped (
    position bigint NOT NULL,
    horizon xid8 NOT NULL,
    rank smallint NOT NULL,
    queue text COLLATE "C" NOT NULL,
    PRIMARY KEY (queue, rank)
);

-- The state of each job, and what belongs to it. The priority of a finished job is NULL unless an operator changed it.
CREATE VIEW jobq.job_state AS
    SELECT id, state, queue, priority, attempt, flags, keyed, since, run_at, worker, lease, settled, started_at,
        NULL::timestamptz AS finished_at, NULL::text AS request, reason, percent, message, details, extra,
        NULL::json AS result, error_type, error_message, error_traceback
    FROM jobq.waiting
    UNION ALL
    SELECT id, 'pending', queue, priority, attempt, flags, keyed, since, run_at, worker, lease, settled, started_at,
        NULL, NULL, reason, percent, message, details, extra, NULL, NULL, NULL, NULL
    FROM jobq.ready
    UNION ALL
    SELECT id, 'processing', queue, priority, attempt, flags, keyed, started_at, run_at, worker, lease, NULL, started_at,
        NULL, request, NULL, percent, message, details, extra, NULL, NULL, NULL, NULL
    FROM jobq.running
    UNION ALL
    SELECT id, state, queue, (extra ->> 'priority')::smallint, attempt, flags, NULL, finished_at, run_at, worker, lease,
        settled, started_at, finished_at, NULL, reason, percent, message, details, extra, result, error_type, error_message, error_traceback
    FROM jobq.outcome;

-- Partitions. `job`, `outcome` and `job_log` have the same ones, by the time in the first bits of an id (UUIDv7): one per
-- week, and a last one for the half year after the next week, where jobs have their place if no worker makes more. Once a week is
-- over, its last jobs move to the default partition, and dropping its partition frees the space at once. Where jobs are
-- kept for longer, new partitions become wider: each statement locks all of them, so they must stay few.
--
-- The functions run with the rights of the tables' owner, so that each worker's role can do the maintenance. For that
-- reason their search_path names pg_temp last: it would come first otherwise, and a caller's temporary table called
-- pg_class would be used instead of the catalog. They wait for locks only briefly, as later transactions queue behind
-- them. Their first lock lets one of them act at a time, and conflicts with no reader or writer; it excludes the
-- partitions (ONLY), which may be vacuumed meanwhile.

CREATE FUNCTION jobq.first_id_of(day date) RETURNS uuid
    LANGUAGE sql IMMUTABLE
    AS $$
        SELECT (lpad(to_hex((extract(epoch FROM day) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
    $$;

CREATE FUNCTION jobq.first_id_at(moment timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE
    AS $$
        SELECT (lpad(to_hex(greatest((extract(epoch FROM moment) * 1000)::bigint, 0)), 12, '0') || repeat('0', 20))::uuid
    $$;

-- List the partitions of `job` but the default one: the end of the name, the first day, and the first day after it.
CREATE FUNCTION jobq.partitions() RETURNS TABLE (suffix text, low date, high date)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT p.suffix,
            (to_timestamp(('x' || translate(p.bounds[2], '-', ''))::bit(48)::bigint / 1000) AT TIME ZONE 'UTC')::date,
            (to_timestamp(('x' || translate(p.bounds[4], '-', ''))::bit(48)::bigint / 1000) AT TIME ZONE 'UTC')::date
        FROM (
            -- FOR VALUES FROM ('…') TO ('…')
            SELECT substr(c.relname, 4) AS suffix, string_to_array(pg_get_expr(c.relpartbound, c.oid), '''') AS bounds
            FROM pg_inherits i
            JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = 'jobq.job'::regclass AND c.relname ~ '^job_[0-9]{8}$'
        ) p
    $$;

-- Return the bytes of the default partitions.
CREATE FUNCTION jobq.default_size() RETURNS bigint
    LANGUAGE sql VOLATILE
    SET search_path = pg_catalog, pg_temp
    AS $$
        SELECT pg_relation_size('jobq.job_default') + pg_relation_size('jobq.outcome_default')
            + pg_relation_size('jobq.job_log_default')
    $$;

-- Make partitions of some weeks, unless jobs of these weeks are in the default partition; returns how many.
CREATE FUNCTION jobq.make_partition(start date, weeks integer) RETURNS integer
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET default_tablespace = ''
    AS $$
        DECLARE
            home text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'jobq.job'::regclass);
            low uuid := jobq.first_id_of(start);
            high uuid := jobq.first_id_of(start + 7 * weeks);
            parent text;
        BEGIN
            IF EXISTS (SELECT FROM jobq.job_default j WHERE j.id >= low AND j.id < high)
                OR EXISTS (SELECT FROM jobq.outcome_default o WHERE o.id >= low AND o.id < high)
                OR EXISTS (SELECT FROM jobq.job_log_default l WHERE l.job >= low AND l.job < high)
            THEN
                RETURN 0;
            END IF;
            FOREACH parent IN ARRAY ARRAY['job', 'outcome', 'job_log'] LOOP
                EXECUTE format(
                    'CREATE TABLE %s.%I PARTITION OF %1$s.%3$I FOR VALUES FROM (%4$L) TO (%5$L)',
                    home, parent || to_char(start, '_YYYYMMDD'), parent, low, high
                );
            END LOOP;
            RETURN 3;
        END
    $$;

-- Drop a partition and return true, or keep it if it has jobs. `most`: how many jobs, and rows of their logs, may move to
-- the default partition.
CREATE FUNCTION jobq.drop_partition(suffix text, most integer) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    AS $$
        DECLARE
            home text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'jobq.job'::regclass);
            parent text;
            found integer;
        BEGIN
            FOREACH parent IN ARRAY ARRAY['job', 'outcome', 'job_log'] LOOP
                CONTINUE WHEN to_regclass(format('%s.%I', home, parent || suffix)) IS NULL;
                EXECUTE format('ALTER TABLE %s.%I DETACH PARTITION %1$s.%3$I', home, parent, parent || suffix);
                EXECUTE format('SELECT count(*) FROM (SELECT FROM %s.%I LIMIT %s) few', home, parent || suffix, most + 1)
                    INTO found;
                IF found > most THEN
                    RAISE EXCEPTION USING ERRCODE = 'JQ000';
                END IF;
                EXECUTE format(
                    'INSERT INTO %s.%I SELECT * FROM %1$s.%3$I p' || CASE parent
                        -- Lines that were written while their job was deleted are not moved.
                        WHEN 'job_log' THEN ' WHERE EXISTS (SELECT FROM %1$s.job j WHERE j.id = p.job)'
                        ELSE ''
                    END,
                    home, parent, parent || suffix
                );
                EXECUTE format('DROP TABLE %s.%I', home, parent || suffix);
            END LOOP;
            RETURN true;
        EXCEPTION WHEN SQLSTATE 'JQ000' THEN
            RETURN false;
        END
    $$;

-- Return whether a partition has more than `most` jobs, without a lock that others would wait for.
CREATE FUNCTION jobq.has_more(suffix text, most integer) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    AS $$
        DECLARE
            home text := (SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'jobq.job'::regclass);
            found boolean;
        BEGIN
            EXECUTE format('SELECT count(*) > %s FROM (SELECT FROM %s.%I LIMIT %1$s + 1) few', most, home, 'job' || suffix)
                INTO found;
            RETURN found;
        END
    $$;

-- Make the partitions of this week, the next one, and the half year after that; returns how many were missing, or NULL
-- if the default partition is too large: it is read under a lock.
CREATE FUNCTION jobq.make_partitions() RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '200ms'
    AS $$
        DECLARE
            monday date := date_trunc('week', jobq.clock() AT TIME ZONE 'UTC')::date;
            newest record;
            start date := monday;
            kept integer;
            made integer := 0;
            weeks integer;
        BEGIN
            LOCK TABLE ONLY jobq.job IN SHARE UPDATE EXCLUSIVE MODE;
            SELECT p.* INTO newest FROM jobq.partitions() p ORDER BY p.high DESC LIMIT 1;
            IF newest.low >= monday + 14 THEN
                RETURN 0;
            END IF;
            IF jobq.default_size() > 128 * 1024 * 1024 THEN
                RETURN NULL;
            END IF;
            IF newest IS NOT NULL THEN
                -- The partition of the time to come gives way to that of a week, unless it was needed.
                IF NOT jobq.has_more(newest.suffix, 0) AND jobq.drop_partition(newest.suffix, 0) THEN
                    start := greatest(newest.low, monday);
                    made := -3;
                ELSE
                    start := greatest(newest.high, monday);
                END IF;
            END IF;
            SELECT count(*) INTO kept FROM jobq.partitions() p WHERE p.high <= monday;
            weeks := CASE WHEN kept <= 4 THEN 1 ELSE 2 ^ least(kept - 4, 7) END;
            WHILE start < monday + 14 LOOP
                made := made + jobq.make_partition(start, weeks);
                start := start + 7 * weeks;
            END LOOP;
            RETURN greatest(made + jobq.make_partition(start, 26), 0);
        END
    $$;

-- Drop the partitions that ended longer ago than `age` and hold at most `most` jobs, which move to the default one; none
-- is moved there if that is large. Returns how many.
CREATE FUNCTION jobq.drop_partitions(age interval, most integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '200ms'
    AS $$
        DECLARE
            old record;
            movable integer := most;
            dropped integer := 0;
        BEGIN
            LOCK TABLE ONLY jobq.job IN SHARE UPDATE EXCLUSIVE MODE;
            FOR old IN
                SELECT p.* FROM jobq.partitions() p
                WHERE p.high::timestamp AT TIME ZONE 'UTC' < jobq.clock() - age
                ORDER BY p.low
            LOOP
                IF jobq.default_size() > 64 * 1024 * 1024 THEN
                    movable := 0;
                END IF;
                CONTINUE WHEN jobq.has_more(old.suffix, movable);
                dropped := dropped + jobq.drop_partition(old.suffix, movable)::integer;
            END LOOP;
            RETURN dropped;
        END
    $$;

-- Update the planner's statistics after a bulk load.
CREATE FUNCTION jobq.analyze() RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $$ ANALYZE jobq.waiting, jobq.ready $$;

-- Which of these unique keys an open transaction holds: the first one, and the transaction: its process, application and
-- seconds since it began, as far as this role may know. One row, without a key if none is held now. Takes no key.
CREATE FUNCTION jobq.busy_key(queues text[], keys text[], jobs uuid[])
    RETURNS TABLE (queue text, key text, holder integer, application text, open_for double precision)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '20ms'
    AS $$
        DECLARE
            busy integer;
        BEGIN
            FOR each IN 1..coalesce(cardinality(keys), 0) LOOP
                BEGIN
                    INSERT INTO jobq.unique_key (queue, key, job) VALUES (queues[each], keys[each], jobs[each])
                    ON CONFLICT DO NOTHING;
                    RAISE EXCEPTION USING ERRCODE = 'JQ000';  -- it was free, and stays so
                EXCEPTION
                    WHEN SQLSTATE 'JQ000' THEN NULL;
                    WHEN lock_not_available THEN
                        busy := each;
                        EXIT;
                END;
            END LOOP;
            RETURN QUERY
                SELECT queues[busy], keys[busy], o.pid, o.application_name, o.seconds
                FROM (SELECT) one
                LEFT JOIN (
                    SELECT l.pid, a.application_name,
                        extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds
                    FROM pg_locks l
                    LEFT JOIN pg_stat_activity a ON a.pid = l.pid
                    WHERE l.locktype = 'relation' AND l.relation = 'jobq.unique_key'::regclass AND l.granted
                        AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
                        AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
                        AND l.pid IS DISTINCT FROM pg_backend_pid() AND a.wait_event_type IS DISTINCT FROM 'Lock'
                        AND coalesce(clock_timestamp() - a.xact_start > interval '1 second', true)
                    ORDER BY a.xact_start
                    LIMIT 1
                ) o ON busy IS NOT NULL;
        END
    $$;

-- Take unique keys for new jobs, in the order of the keys, so that two adds cannot deadlock. Returns the holder of each
-- key, and whether this call took the key; no row for a key whose holder is not visible yet. Rows without queue and key
-- name the jobs of `all_jobs` that are stored already. A key that was held for a time which is over is free.
--
-- A key that an open transaction holds is waited for, for a second. After that, nothing is taken, and one more row,
-- without a job, says what `busy_key` does.
CREATE FUNCTION jobq.claim_keys(queues text[], keys text[], jobs uuid[], all_jobs uuid[])
    RETURNS TABLE (
        queue text, key text, job uuid, taken boolean, holder integer, application text, open_for double precision
    )
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '1s'
    AS $$
        #variable_conflict use_column
        BEGIN
            RETURN QUERY
                WITH given AS MATERIALIZED (
                    SELECT g.queue, g.key, g.job, EXISTS (SELECT FROM jobq.job j WHERE j.id = g.job) AS stored
                    FROM unnest(queues, keys, jobs) AS g(queue, key, job)
                ), over AS (
                    DELETE FROM jobq.unique_key k
                    WHERE k.until <= jobq.clock() AND k.job = ANY(ARRAY(
                        SELECT k.job
                        FROM given g
                        CROSS JOIN LATERAL (
                            SELECT k.* FROM jobq.unique_key k WHERE k.queue = g.queue AND k.key = g.key LIMIT 1
                        ) k
                        WHERE NOT g.stored AND k.until <= jobq.clock()
                    ))
                    RETURNING k.job
                ), taken AS (
                    INSERT INTO jobq.unique_key (queue, key, job)
                    SELECT g.queue, g.key, g.job FROM given g
                    WHERE NOT g.stored AND (SELECT count(*) FROM over) IS NOT NULL
                    ORDER BY g.queue, g.key
                    ON CONFLICT (queue, key) DO NOTHING
                    RETURNING queue, key, job
                )
                SELECT t.queue, t.key, t.job, true, NULL::integer, NULL::text, NULL::float8 FROM taken t
                UNION ALL
                SELECT NULL, NULL, a.job, NULL, NULL, NULL, NULL
                FROM unnest(all_jobs) AS a(job)
                WHERE EXISTS (SELECT FROM jobq.job j WHERE j.id = a.job)
                UNION ALL
                SELECT k.queue, k.key, k.job, false, NULL, NULL, NULL
                FROM given g
                CROSS JOIN LATERAL (
                    SELECT k.* FROM jobq.unique_key k WHERE k.queue = g.queue AND k.key = g.key LIMIT 1
                ) k
                WHERE NOT g.stored AND (k.until <= jobq.clock()) IS NOT TRUE
                    -- A holder that ended while this statement waited for it is still visible, though its key was taken.
                    AND NOT EXISTS (SELECT FROM taken t WHERE t.queue = g.queue AND t.key = g.key);
        EXCEPTION WHEN lock_not_available THEN
            RETURN QUERY
                SELECT b.queue, b.key, NULL::uuid, NULL::boolean, b.holder, b.application, b.open_for
                FROM jobq.busy_key(queues, keys, jobs) b;
        END
    $$;

-- By default, every role may run a new function. These act for the owner, so the owner grants them.
REVOKE ALL ON FUNCTION jobq.make_partitions(), jobq.drop_partitions(interval, integer), jobq.analyze() FROM PUBLIC;

SELECT jobq.make_partitions();
