"""The types of the API: what it takes and answers. Times are in ISO 8601 with an offset, durations in seconds."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from msgspec import Meta, Struct, field

from jobq_core.job import MAX_ATTEMPTS, MAX_PRIORITY, MIN_PRIORITY
from jobq_core.states import JobState, StopRequest
from jobq_core.storage import Action, OperationState, Severity
from jobq_server.web.security.identity import Role

NO_NUL: Final = {"pattern": r"^[^\x00]*$"}
"""What the document says of a text; `declaring` checks it, with a better sentence."""

Moment = Annotated[datetime, Meta(tz=True)]
Name = Annotated[str, Meta(min_length=1, max_length=255, extra_json_schema=NO_NUL)]
Text = Annotated[str, Meta(min_length=1, max_length=500, extra_json_schema=NO_NUL)]
Argument = Annotated[
    str, Meta(min_length=1, max_length=500, extra_json_schema={"pattern": r"^[^=\x00]*[^=\s\x00][^=\x00]*=[^\x00]*$"})
]
Header = Annotated[str, Meta(extra_json_schema=NO_NUL)]
Priority = Annotated[int, Meta(ge=MIN_PRIORITY, le=MAX_PRIORITY)]
Attempts = Annotated[int, Meta(ge=1, le=MAX_ATTEMPTS)]
Limit = Annotated[int, Meta(ge=1, le=200)]
Json = Annotated[Any, Meta(description="Any JSON value.")]


class Problem(Struct):
    """Why a request was refused (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


class Me(Struct):
    """Who makes the request."""

    name: str
    role: Role


# Jobs


class ErrorView(Struct):
    """The error of a run. message, traceback: null where they are hidden from the role."""

    type: str
    message: str | None
    traceback: str | None


class ProgressView(Struct):
    """The progress of a run. percent: 0 to 100. details: any JSON value."""

    percent: float
    message: str | None
    details: Json


class AttemptView(Struct):
    """A run that did not complete."""

    number: int
    lease: int
    worker: UUID | None
    started_at: Moment
    finished_at: Moment
    error: ErrorView


class JobView(Struct, kw_only=True):
    """A job without its payloads."""

    id: UUID
    kind: str
    queue: str
    state: JobState
    priority: int
    created_at: Moment
    run_at: Moment | None
    deadline: Moment | None
    timeout: float | None
    attempt: int
    max_attempts: int
    run_id: str | None
    tags: list[str]
    unique_key: str | None
    reason: str | None
    stop_request: StopRequest | None
    worker: UUID | None
    lease: int | None
    started_at: Moment | None
    finished_at: Moment | None
    since: Moment | None
    progress: ProgressView
    error: ErrorView | None


class JobDetail(JobView, kw_only=True):
    """A job with its payloads. parent: the job whose handler added it, or that it follows. hidden: whether arguments,
    result, headers, progress and messages of errors are left out, for the role of who asks does not see them."""

    finished: bool
    parent: UUID | None
    hidden: bool
    arguments: Json
    result: Json
    headers: Json
    attempts: list[AttemptView]


class JobPage(Struct):
    """Jobs, newest first. next: the `after` of the next page; null on the last one."""

    jobs: list[JobView]
    next: UUID | None


class ReasonView(Struct):
    """Why a job does not run, or how it ended. code: a stable name. at: the moment that the sentence names."""

    code: str
    sentence: str
    at: Moment | None


Place = Annotated[str, Meta(pattern=r"^[0-9]{1,18}\.[0-9]{1,9}$")]


class LogsQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which lines of a job's logs: the last ones, of one attempt or of all, before or after a place.

    before: the `first` of an answer, for what comes before it. after: the `last` of an answer, for what came since.
    limit: the number of parts. A part has the lines of about a second, 64 KiB at most.
    """

    attempt: Attempts | None = None
    before: Place | None = None
    after: Place | None = None
    limit: Limit = 50


class LogLineView(Struct):
    """One record that the handler logged. It may be of several lines of text."""

    at: Moment
    attempt: int
    lease: int
    level: str
    logger: str
    message: str


class LogsView(Struct):
    """Lines of a job's logs, oldest first. first, last: the places of their parts; null without lines. hidden: whether
    they are left out, for the role of who asks does not see payloads."""

    lines: list[LogLineView]
    first: str | None
    last: str | None
    hidden: bool


class JobQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which jobs to find: those for which all conditions hold.

    state, kind: any of them. tag: all of them. since, until: added at this moment or later, and before this one.
    error: text in the message of the last error; error_type: its whole type. argument: a name, '=', and a value as JSON
    or else as text; one that is stored as a secret matches no value. worker: the one that ran it last. parent: the job
    whose handler added it, or that it follows.
    """

    queue: Name | None = None
    state: list[JobState] = field(default_factory=list)
    kind: list[Name] = field(default_factory=list)
    tag: list[Name] = field(default_factory=list)
    run_id: Name | None = None
    since: Moment | None = None
    until: Moment | None = None
    error: Text | None = None
    error_type: Text | None = None
    argument: Argument | None = None
    worker: UUID | None = None
    parent: UUID | None = None


class JobPageQuery(JobQuery, forbid_unknown_fields=True, kw_only=True):
    """Which jobs to find, and which page of them. after: the `next` of the page before. limit: jobs of a page."""

    after: UUID | None = None
    limit: Limit = 50


class NewJobBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """A job to add.

    arguments: a JSON object of at most 256 KiB. delay: seconds before it may run; run_at: its earliest start; at most
    one of them. deadline: the end of its time. timeout: seconds that one run may take. unique: a key that only one
    unfinished job of the queue has. headers: texts that travel with the job.
    """

    kind: Name
    arguments: Annotated[dict[str, Json], Meta(description="The arguments, by name.")] = field(default_factory=dict)
    queue: Name | None = None
    priority: Priority | None = None
    delay: Annotated[float, Meta(ge=0, le=3_162_240_000)] | None = None
    run_at: Moment | None = None
    deadline: Moment | None = None
    timeout: Annotated[float, Meta(gt=0, lt=315_360_000)] | None = None
    max_attempts: Attempts | None = None
    unique: Name | None = None
    run_id: Name | None = None
    tags: Annotated[list[Name], Meta(max_length=50)] | None = None
    headers: dict[Name, Header] | None = None


class AddedView(Struct):
    """The job that now stands for what was added. created: False where one with the unique key was there."""

    id: UUID
    created: bool


class ChangeView(Struct):
    """What an action did to a job. before, after: its states; after is null for a deleted job. asked: its running
    handler was asked to stop. changed: whether anything happened, or will."""

    id: UUID
    before: JobState | None
    after: JobState | None
    asked: bool
    changed: bool


class RescheduleBody(Struct, forbid_unknown_fields=True):
    """The moment from which on the job may start."""

    run_at: Moment


class MoveBody(Struct, forbid_unknown_fields=True):
    """The queue to move the job to."""

    queue: Name


class PriorityBody(Struct, forbid_unknown_fields=True):
    """The priority, higher first."""

    priority: Priority


class WaitQuery(Struct, forbid_unknown_fields=True):
    """timeout: seconds to wait at most."""

    timeout: Annotated[float, Meta(ge=0, le=60)] = 30.0


class JobEvent(Struct):
    """The data of an event of a followed job."""

    id: UUID
    state: JobState
    attempt: int
    progress: ProgressView
    error: ErrorView | None


class StreamedEvent(Struct):
    """A server-sent event of a followed job. event: `job` at each change of its state or progress, `end` when it is
    over, `deleted` when it is gone. data: a JobEvent as JSON; null of a deleted job."""

    event: Literal["job", "end", "deleted"]
    data: Annotated[
        str,
        Meta(
            extra_json_schema={
                "contentMediaType": "application/json",
                "contentSchema": {"anyOf": [{"$ref": "#/components/schemas/JobEvent"}, {"type": "null"}]},
            }
        ),
    ]


# Queues, depths, activity


class RetentionBody(Struct, forbid_unknown_fields=True):
    """How long a queue keeps its finished jobs, in seconds; null for forever."""

    completed: Annotated[float, Meta(ge=0, le=3_162_240_000)] | None
    failed: Annotated[float, Meta(ge=0, le=3_162_240_000)] | None
    aborted: Annotated[float, Meta(ge=0, le=3_162_240_000)] | None


class QueueView(Struct, kw_only=True):
    """A queue. jobs: by state. oldest_seconds: the age of its oldest pending job. The rates are of the last five
    minutes, the percentiles in seconds of the last hour. slots, busy: of the live workers that serve it."""

    name: str
    jobs: dict[JobState, int]
    oldest_seconds: float | None
    counted_at: Moment | None
    paused_at: Moment | None
    paused_by: str | None
    retention: RetentionBody
    added_per_minute: float | None
    ended_per_minute: float
    completed_last_hour: int
    failed_last_hour: int
    aborted_last_hour: int
    waiting_p50: float | None
    waiting_p95: float | None
    waiting_p99: float | None
    running_p50: float | None
    running_p95: float | None
    running_p99: float | None
    workers: int
    slots: int
    busy: int


class PausedView(Struct):
    """Whether a queue is paused."""

    queue: str
    paused: bool


class DepthView(Struct):
    """The number of jobs of a queue in a state. at: when they were counted."""

    queue: str
    state: JobState
    jobs: int
    oldest: Moment | None
    at: Moment


class QueueQuery(Struct, forbid_unknown_fields=True):
    """queue: of this queue alone."""

    queue: Name | None = None


class SpanQuery(Struct, forbid_unknown_fields=True):
    """queue: of this queue alone. span: hour (by minute), day (by ten minutes) or week (by hour)."""

    queue: Name | None = None
    span: Literal["hour", "day", "week"] = "hour"


class StatisticsView(Struct):
    """The jobs of a queue and kind that ended in a step in one state, and how long they waited and ran, in seconds:
    sums, and the number of jobs by bucket. Bucket n holds 2^(n/2) up to 2^((n+1)/2) milliseconds."""

    at: Moment
    queue: str
    kind: str
    state: JobState
    jobs: int
    waiting_seconds: float
    running_seconds: float
    waiting: dict[str, int]
    running: dict[str, int]


class PercentilesView(Struct):
    """Seconds that 50, 95 and 99 % of the jobs stayed below; null where no job ran."""

    p50: float | None
    p95: float | None
    p99: float | None


class PointView(Struct, kw_only=True):
    """What went on in one step. added: as far as samples of the depths say. unfinished, pending: at its end. waiting,
    running: of the jobs that ended."""

    at: Moment
    added: int | None
    completed: int
    failed: int
    aborted: int
    unfinished: int | None
    pending: int | None
    oldest_seconds: float | None
    waiting: PercentilesView
    running: PercentilesView


class QueueActivity(Struct):
    """What went on in a queue, by step, oldest first."""

    queue: str
    points: list[PointView]


# Operations


class FilterBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which jobs an operation is for: those for which all conditions hold, as in the query of `GET /jobs`."""

    queue: Name | None = None
    state: Annotated[list[JobState], Meta(max_length=8)] = field(default_factory=list)
    kind: Annotated[list[Name], Meta(max_length=50)] = field(default_factory=list)
    tag: Annotated[list[Name], Meta(max_length=50)] = field(default_factory=list)
    run_id: Name | None = None
    since: Moment | None = None
    until: Moment | None = None
    error: Text | None = None
    error_type: Text | None = None
    argument: Argument | None = None
    worker: UUID | None = None
    parent: UUID | None = None


class OperationBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """A bulk operation. value: of reschedule a moment, of move a queue, of priority a number as text. dry_run: only
    count the jobs that match (default: false)."""

    action: Action
    filter: FilterBody
    value: Name | None = None
    dry_run: bool = False


class FilterView(Struct, kw_only=True):
    """The filter of an operation, as a FilterBody has it. argument: its value is in JSON."""

    queue: str | None
    state: list[JobState]
    kind: list[str]
    tag: list[str]
    run_id: str | None
    since: Moment | None
    until: Moment | None
    error: str | None
    error_type: str | None
    argument: str | None
    worker: UUID | None
    parent: UUID | None


class PreviewView(Struct):
    """How many jobs match; null for more than 50,000, or if too many would have to be read."""

    matched: int | None


class OperationView(Struct, kw_only=True):
    """A bulk operation. done: the jobs worked on so far; changed: those that were changed; refused: those that could
    not be."""

    id: UUID
    action: Action
    value: str | None
    filter: FilterView
    actor: str
    created_at: Moment
    matched: int | None
    state: OperationState
    done: int
    changed: int
    refused: int
    worked_at: Moment | None
    finished_at: Moment | None
    error: str | None


class CancelledView(Struct):
    """Whether an operation was running, and is cancelled now."""

    id: UUID
    cancelled: bool


class ListQuery(Struct, forbid_unknown_fields=True):
    """limit: how many at most."""

    limit: Limit = 50


# Workers


class WorkerView(Struct, kw_only=True):
    """A registered worker. alive: its heartbeat has not expired. concurrency: the number of its slots, as of its last
    heartbeat. limited: seconds until its limiter opens; null where it is open. memory: bytes. loop_lag: seconds.
    processor: share of one processor that its process uses."""

    id: UUID
    name: str
    host: str
    pid: int
    alive: bool
    queues: list[str]
    kinds: list[str]
    concurrency: int
    running: int
    started_at: Moment
    beat_at: Moment
    expires_at: Moment
    completed: int
    failed: int
    retried: int
    aborted: int
    busy_seconds: float
    hung: int
    loop_lag: float
    limited: float | None
    memory: int
    processor: float
    notified: bool
    versions: dict[str, str]


class StackBody(Struct, forbid_unknown_fields=True):
    """job: whose handler's stack is wanted; null for all that runs (default). timeout: seconds to wait for the answer
    (default: 10)."""

    job: UUID | None = None
    timeout: Annotated[float, Meta(ge=0, le=25)] = 10.0


class RequestView(Struct):
    """A request to a worker. answer: null until the worker has answered."""

    id: UUID
    worker: UUID
    answer: str | None


# Failures, audit, doctor


class FailureView(Struct, kw_only=True):
    """Failed jobs of a queue and kind whose errors are alike. message: that of the newest; null where it is hidden."""

    fingerprint: str
    kind: str
    queue: str
    type: str
    message: str | None
    jobs: int
    first: Moment | None
    last: Moment | None
    newest_job: UUID


class AuditQuery(Struct, forbid_unknown_fields=True):
    """target: the id of a job, worker or operation, or the name of a queue. after: the id of the last entry of the page
    before."""

    target: Name | None = None
    after: UUID | None = None
    limit: Limit = 50


class AuditView(Struct):
    """What an operator did."""

    id: UUID
    at: Moment
    actor: str
    action: str
    target: str
    details: Json


class FindingView(Struct):
    """One thing that is wrong. code: a stable name. remedy: the command that cures it."""

    code: str
    severity: Severity
    subject: str
    message: str
    remedy: str
