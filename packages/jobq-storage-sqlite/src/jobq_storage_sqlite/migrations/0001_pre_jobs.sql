-- jobq's tables. Their names begin with jobq_, so that they can share a file with an application's own tables.
--
-- Ids are UUIDs as 16 bytes. Times are microseconds since 1970, UTC. n is a job's number in order of adding: a short
-- key that joins the tables. The CHECKs refuse rows that no reader could use; they ask for NULL first, which costs less
-- than what follows.

-- The last number given out. Jobs, positions and leases share it: numbers rise, and none is used twice.
-- prunings: how often rows of jobq_span were deleted. What a process knows of those rows is true until it changes.
CREATE TABLE jobq_sequence (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    value INTEGER NOT NULL,
    prunings INTEGER NOT NULL
) STRICT;

INSERT INTO jobq_sequence (one, value, prunings) VALUES (1, 0, 0);

-- What was added: written once. Only an operator changes the priority.
-- meta: headers that travel with the job, a JSON object. follow_up: JSON of what follows if the job fails.
CREATE TABLE jobq_job (
    n INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    kind TEXT NOT NULL,
    priority INTEGER NOT NULL CHECK (priority BETWEEN -100 AND 100),
    arguments BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    deadline INTEGER,
    timeout REAL CHECK (timeout IS NULL OR (timeout >= 0 AND timeout < 9e999)),
    max_attempts INTEGER NOT NULL CHECK (max_attempts BETWEEN 1 AND 32767),
    backoff BLOB,
    run_id TEXT,
    tags TEXT CHECK (tags IS NULL OR json_type(tags) = 'array'),
    fingerprint BLOB,
    meta BLOB,
    follow_up BLOB
) STRICT;

CREATE INDEX jobq_job_run ON jobq_job (run_id, id) WHERE run_id IS NOT NULL;
CREATE INDEX jobq_job_fingerprint ON jobq_job (fingerprint, id) WHERE fingerprint IS NOT NULL;

-- The job's state: a narrow row, changed in place.
-- urgency: set when the job becomes PENDING: its negated priority, so that an ascending index serves the most important
-- job first; -101 in the returned line, which comes before all priorities.
-- position: the place in line within a queue and an urgency.
-- since: when a job that waits, or is PENDING, came to its state. A running job's is started_at, a finished one's
-- finished_at.
-- flags: the sum of 1 (gated), 2 (followed), 4 (its failure is followed), and values that newer code may add.
-- extra: a JSON object of what newer code may add; its 'refused' are the declarations that refused the arguments.
-- deadline: the job's.
-- settled: the state that the settlement under `lease` led to.
-- started_lease: the last lease whose run was marked as started.
-- error_lease: the lease of the attempt that holds the job's present error.
-- key_queue: the queue of the unique key, of a job that was moved to another queue since; else NULL.
CREATE TABLE jobq_life (
    n INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    urgency INTEGER NOT NULL CHECK (urgency BETWEEN -101 AND 100),
    position INTEGER NOT NULL,
    state TEXT NOT NULL,
    since INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0 CHECK (attempt BETWEEN 0 AND 32767),
    flags INTEGER NOT NULL DEFAULT 0,
    run_at INTEGER,
    deadline INTEGER,
    reason TEXT,
    request TEXT CHECK (request IS NULL OR request IN ('abort', 'disable')),
    worker BLOB CHECK (worker IS NULL OR length(worker) = 16),
    lease INTEGER,
    started_lease INTEGER,
    settled TEXT,
    started_at INTEGER,
    finished_at INTEGER,
    error_lease INTEGER,
    unique_key TEXT,
    key_queue TEXT,
    extra TEXT CHECK (extra IS NULL OR json_type(extra) = 'object'),
    percent REAL CHECK (percent IS NULL OR percent BETWEEN 0 AND 100),
    message TEXT,
    details BLOB,
    result BLOB,
    -- The states, and what a job has in each. CASE, since SQLite builds a table for each IN of more than two values.
    CHECK (
        CASE state
            WHEN 'pending' THEN finished_at IS NULL AND reason IS NULL
            WHEN 'processing' THEN finished_at IS NULL AND reason IS NULL AND attempt > 0
                AND worker IS NOT NULL AND lease IS NOT NULL AND started_at IS NOT NULL
            WHEN 'completed' THEN finished_at IS NOT NULL
            WHEN 'scheduled' THEN finished_at IS NULL AND reason IS NOT NULL
            WHEN 'blocked' THEN finished_at IS NULL AND reason IS NOT NULL
            WHEN 'disabled' THEN finished_at IS NULL AND reason IS NOT NULL
            WHEN 'failed' THEN finished_at IS NOT NULL
            WHEN 'aborted' THEN finished_at IS NOT NULL
            ELSE FALSE
        END
    ),
    CHECK (
        settled IS NULL OR CASE settled
            WHEN 'completed' THEN TRUE
            WHEN 'pending' THEN TRUE
            WHEN 'scheduled' THEN TRUE
            WHEN 'blocked' THEN TRUE
            WHEN 'disabled' THEN TRUE
            WHEN 'failed' THEN TRUE
            WHEN 'aborted' THEN TRUE
            ELSE FALSE
        END
    )
) STRICT;

-- Each index holds the jobs of its states only, so that claiming passes neither finished jobs nor future ones. Its last
-- columns are those of its predicate, so that counting reads the index alone. Only jobs that wait have a reason and are
-- unfinished. Each change of a job costs each predicate: they ask for NULL first, and have no IN of more than two values,
-- for which SQLite would build a table.
CREATE INDEX jobq_life_ready ON jobq_life (queue, urgency, position, state) WHERE state = 'pending';
CREATE INDEX jobq_life_due ON jobq_life (run_at, n, state, reason)
WHERE reason IS NOT NULL AND state IN ('scheduled', 'blocked');
CREATE INDEX jobq_life_waiting ON jobq_life (queue, state, since, reason, finished_at)
WHERE reason IS NOT NULL AND finished_at IS NULL;
CREATE INDEX jobq_life_running ON jobq_life (worker) WHERE state = 'processing';
CREATE INDEX jobq_life_finished ON jobq_life (queue, state, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobq_life_deadline ON jobq_life (deadline) WHERE deadline IS NOT NULL AND finished_at IS NULL;

-- The unique keys and their jobs. A key is held while its job is unfinished or, if `until` is set, until then.
CREATE TABLE jobq_unique_key (
    queue TEXT NOT NULL,
    unique_key TEXT NOT NULL,
    n INTEGER NOT NULL,
    until INTEGER,
    PRIMARY KEY (queue, unique_key)
) STRICT, WITHOUT ROWID;

-- The jobs that workers could not take: BLOCKED, since they did not know the kind, or did not take the arguments.
-- refused: the declarations that refused the arguments, the same array as in the life's `extra`. Rows of jobs that have
-- left that state since are deleted when they are met.
CREATE TABLE jobq_suspended (
    queue TEXT NOT NULL,
    kind TEXT NOT NULL,
    refused TEXT NOT NULL,
    id BLOB NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (queue, kind, refused, id)
) STRICT, WITHOUT ROWID;

-- The ends of followed jobs, until they are resolved. state: NULL for a job that was deleted. failed: of a job with a
-- follow-up that failed, a JSON object of what the follow-up is made of, whatever is done to the job later.
CREATE TABLE jobq_ended (
    n INTEGER PRIMARY KEY,
    id BLOB NOT NULL CHECK (length(id) = 16),
    queue TEXT NOT NULL,
    state TEXT CHECK (state IS NULL OR state = 'completed' OR state = 'failed' OR state = 'aborted'),
    at INTEGER NOT NULL,
    failed BLOB
) STRICT;

-- The runs that did not complete. A row of number 0 holds the error of a job that failed without a run.
CREATE TABLE jobq_attempt (
    n INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    number INTEGER NOT NULL,
    worker BLOB CHECK (length(worker) = 16),
    started_at INTEGER NOT NULL,
    finished_at INTEGER NOT NULL,
    type TEXT NOT NULL,
    message TEXT NOT NULL,
    traceback TEXT,
    PRIMARY KEY (n, lease)
) STRICT, WITHOUT ROWID;

-- What handlers logged. A row has the lines of a run since the row before.
-- part: its number within the run. at: when it was written. lines: JSON. Not WITHOUT ROWID, since its rows may be large.
CREATE TABLE jobq_log (
    n INTEGER NOT NULL,
    lease INTEGER NOT NULL,
    part INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at INTEGER NOT NULL,
    lines TEXT NOT NULL,
    PRIMARY KEY (n, lease, part)
) STRICT;

-- How many finished jobs there are.
CREATE TABLE jobq_count (
    queue TEXT NOT NULL,
    state TEXT NOT NULL CHECK (CASE state WHEN 'completed' THEN TRUE WHEN 'failed' THEN TRUE ELSE state = 'aborted' END),
    kind TEXT NOT NULL,
    jobs INTEGER NOT NULL,
    PRIMARY KEY (queue, state, kind)
) STRICT, WITHOUT ROWID;

-- How many runs and jobs ended in each minute, by the state that they came to.
-- minute: since 1970. waiting_seconds, running_seconds: sums. waiting, running: histograms, as JSON objects.
CREATE TABLE jobq_tally (
    minute INTEGER NOT NULL,
    queue TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    jobs INTEGER NOT NULL,
    waiting_seconds REAL NOT NULL,
    running_seconds REAL NOT NULL,
    waiting TEXT NOT NULL CHECK (json_type(waiting) = 'object'),
    running TEXT NOT NULL CHECK (json_type(running) = 'object'),
    PRIMARY KEY (minute, queue, kind, state)
) STRICT, WITHOUT ROWID;

-- The same of longer steps, of 600 or 3,600 seconds, summed up from the minutes of steps that are over.
-- minute: the start of the step. queue, kind: '' for all together, which a chart of weeks reads.
CREATE TABLE jobq_tally_step (
    step INTEGER NOT NULL CHECK (step = 600 OR step = 3600),
    minute INTEGER NOT NULL,
    queue TEXT NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    jobs INTEGER NOT NULL,
    waiting_seconds REAL NOT NULL,
    running_seconds REAL NOT NULL,
    waiting TEXT NOT NULL CHECK (json_type(waiting) = 'object'),
    running TEXT NOT NULL CHECK (json_type(running) = 'object'),
    PRIMARY KEY (step, minute, queue, kind, state)
) STRICT, WITHOUT ROWID;

-- The last sample of the unfinished jobs, and of each step of 60, 600 and 3,600 seconds the last one that was taken in
-- it. step: 0 for the last sample of all. start: seconds since 1970. age: how long the job that was longest in this
-- state was in it, in microseconds.
CREATE TABLE jobq_depth (
    step INTEGER NOT NULL,
    start INTEGER NOT NULL,
    queue TEXT NOT NULL,
    state TEXT NOT NULL,
    jobs INTEGER NOT NULL,
    age INTEGER NOT NULL,
    PRIMARY KEY (step, start, queue, state)
) STRICT, WITHOUT ROWID;

-- When the last sample was taken, by both clocks, and how long it is good for; in microseconds.
CREATE TABLE jobq_sample (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    at INTEGER NOT NULL,
    uptime INTEGER NOT NULL,
    pause INTEGER NOT NULL
) STRICT;

-- Where jobs of a queue, a kind or a tag, or failed and aborted ones, are among the ids: the spans, of 4,096 ms each by
-- the time in the id. Few rows, whatever the number of jobs. Rows of jobs that are gone may stay for a while.
-- what: 'apart' for jobs whose id was made long before, or after, they were added; then the name is the time of adding.
CREATE TABLE jobq_span (
    what TEXT NOT NULL,
    name TEXT NOT NULL,
    span INTEGER NOT NULL,
    PRIMARY KEY (what, name, span)
) STRICT, WITHOUT ROWID;

CREATE INDEX jobq_span_age ON jobq_span (span);

-- The registered workers.
-- number: in order of registration. queues, kinds: arrays of text as JSON. versions, stats: JSON. lost_after: microseconds.
-- beat_uptime: the machine's time since booting at `beat_at`, in microseconds. It alone decides whether the worker lives.
CREATE TABLE jobq_worker (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    number INTEGER NOT NULL,
    name TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    queues TEXT NOT NULL CHECK (json_type(queues) = 'array'),
    kinds TEXT NOT NULL CHECK (json_type(kinds) = 'array'),
    concurrency INTEGER NOT NULL,
    lost_after INTEGER NOT NULL,
    versions TEXT NOT NULL DEFAULT '{}' CHECK (json_type(versions) = 'object'),
    stats TEXT NOT NULL CHECK (json_type(stats) = 'object'),
    started_at INTEGER NOT NULL,
    beat_at INTEGER NOT NULL,
    beat_uptime INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The worker that leads the maintenance. uptime: when its term began, by the machine's time since booting. term: its
-- length. Both in microseconds.
CREATE TABLE jobq_leader (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    worker BLOB NOT NULL,
    uptime INTEGER NOT NULL,
    term INTEGER NOT NULL
) STRICT;

-- What was set of queues.
-- completed, failed, aborted: how long finished jobs are kept, in microseconds; NULL: without limit.
-- owner: who set that; NULL: nobody, and the usual retention holds.
CREATE TABLE jobq_queue (
    queue TEXT PRIMARY KEY,
    paused_at INTEGER,
    paused_by TEXT,
    owner TEXT CHECK (owner IN ('operator', 'worker')),
    completed INTEGER,
    failed INTEGER,
    aborted INTEGER
) STRICT, WITHOUT ROWID;

-- The bulk operations of operators.
-- filter: a JobFilter as JSON. before: the first id that did not exist yet. cursor: the last job that was worked on.
CREATE TABLE jobq_operation (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    action TEXT NOT NULL,
    value TEXT,
    filter TEXT NOT NULL CHECK (json_type(filter) = 'object'),
    before BLOB NOT NULL CHECK (length(before) = 16),
    actor TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    matched INTEGER,
    state TEXT NOT NULL CHECK (CASE state WHEN 'running' THEN TRUE WHEN 'done' THEN TRUE ELSE state = 'cancelled' END),
    cursor BLOB CHECK (cursor IS NULL OR length(cursor) = 16),
    done INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    worked_at INTEGER,
    finished_at INTEGER,
    error TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX jobq_operation_running ON jobq_operation (state, id) WHERE state = 'running';

-- What operators did. details: JSON.
CREATE TABLE jobq_audit (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    details TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX jobq_audit_target ON jobq_audit (target, id);
CREATE INDEX jobq_audit_age ON jobq_audit (at);

-- What workers were asked to do, and their answers.
CREATE TABLE jobq_worker_request (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    worker BLOB NOT NULL CHECK (length(worker) = 16),
    action TEXT NOT NULL,
    job BLOB CHECK (job IS NULL OR length(job) = 16),
    actor TEXT NOT NULL,
    asked_at INTEGER NOT NULL,
    answered_at INTEGER,
    answer TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX jobq_worker_request_worker ON jobq_worker_request (worker, asked_at);

-- How many transactions notified each topic. Other processes compare the counts when the file has changed.
CREATE TABLE jobq_topic (
    topic TEXT PRIMARY KEY,
    notifications INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
