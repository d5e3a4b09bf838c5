-- jobq's tables. They begin with jobq_, so that they can live in a file beside an application's own.
--
-- Ids are UUIDs as 16 bytes. Times are microseconds since 1970, UTC. n is a job's number in order of adding: a short key
-- that joins the tables. States: 0 SCHEDULED, 1 BLOCKED, 2 DISABLED, 3 PENDING, 4 PROCESSING, 5 COMPLETED, 6 FAILED,
-- 7 ABORTED. What every reader relies on is checked here, so that no row that a stranger writes stands in others' way.

-- The last number given out, of jobs, places in line and leases alike: all rise, and none is ever used twice.
CREATE TABLE jobq_sequence (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    value INTEGER NOT NULL
) STRICT;

INSERT INTO jobq_sequence (one, value) VALUES (1, 0);

-- What was asked: written once, never changed.
CREATE TABLE jobq_job (
    n INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    kind TEXT NOT NULL,
    arguments BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    deadline INTEGER,
    timeout REAL,
    max_attempts INTEGER NOT NULL CHECK (max_attempts BETWEEN 1 AND 32767),
    backoff BLOB,
    run_id TEXT,
    tags TEXT CHECK (json_type(tags) = 'array'),
    fingerprint BLOB
) STRICT;

CREATE INDEX jobq_job_run ON jobq_job (run_id, id) WHERE run_id IS NOT NULL;
CREATE INDEX jobq_job_fingerprint ON jobq_job (fingerprint, id) WHERE fingerprint IS NOT NULL;

-- Where the job is in its life: a narrow row, changed in place. urgency is the priority with its sign turned.
-- settled: the state that the settlement under `lease` led to. begun_lease: the last lease whose run was noted to begin.
-- error_lease: the attempt that holds the present error.
CREATE TABLE jobq_life (
    n INTEGER PRIMARY KEY,
    queue TEXT NOT NULL,
    urgency INTEGER NOT NULL CHECK (urgency BETWEEN -9 AND 9),
    position INTEGER NOT NULL,
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 7),
    attempt INTEGER NOT NULL DEFAULT 0 CHECK (attempt BETWEEN 0 AND 32767),
    run_at INTEGER,
    reason TEXT,
    request TEXT CHECK (request IN ('abort', 'disable')),
    worker BLOB CHECK (length(worker) = 16),
    lease INTEGER,
    begun_lease INTEGER,
    settled INTEGER CHECK (settled BETWEEN 0 AND 7),
    started_at INTEGER,
    finished_at INTEGER,
    error_lease INTEGER,
    unique_key TEXT,
    percent REAL,
    message TEXT,
    details BLOB,
    result BLOB,
    -- What taking a running job back needs.
    CHECK (state <> 4 OR (worker IS NOT NULL AND lease IS NOT NULL AND started_at IS NOT NULL))
) STRICT;

-- Each index holds the jobs of its states only, so that claiming meets neither finished jobs nor future ones. It has the
-- state as its last column, so that counting reads nothing but the index.
CREATE INDEX jobq_life_ready ON jobq_life (queue, urgency, position, state) WHERE state = 3;
CREATE INDEX jobq_life_due ON jobq_life (run_at, n, queue, state) WHERE state < 2;
CREATE INDEX jobq_life_blocked ON jobq_life (queue, reason) WHERE state = 1;
CREATE INDEX jobq_life_disabled ON jobq_life (queue, state) WHERE state = 2;
CREATE INDEX jobq_life_running ON jobq_life (worker, queue, state) WHERE state = 4;
CREATE INDEX jobq_life_finished ON jobq_life (queue, state, finished_at) WHERE state > 4;
CREATE UNIQUE INDEX jobq_life_unique ON jobq_life (queue, unique_key) WHERE unique_key IS NOT NULL AND state < 5;

-- The runs that did not complete.
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

-- number: in the order of registering. lost_after: microseconds. beat_uptime: what the machine's time since booting was,
-- in microseconds, when beat_at was: it alone says whether the worker lives.
CREATE TABLE jobq_worker (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    number INTEGER NOT NULL,
    info TEXT NOT NULL,
    stats TEXT NOT NULL,
    lost_after INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    beat_at INTEGER NOT NULL,
    beat_uptime INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Who leads the maintenance, since when by the machine's time since booting, and for how long; microseconds.
CREATE TABLE jobq_leader (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    worker BLOB NOT NULL,
    uptime INTEGER NOT NULL,
    term INTEGER NOT NULL
) STRICT;

-- Microseconds that finished jobs of a queue are kept; NULL: for ever.
CREATE TABLE jobq_retention (
    queue TEXT PRIMARY KEY,
    completed INTEGER,
    failed INTEGER,
    aborted INTEGER
) STRICT, WITHOUT ROWID;

-- How often each topic of the doorbell rang: what other processes look at when the file has changed.
CREATE TABLE jobq_bell (
    topic TEXT PRIMARY KEY,
    rings INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
