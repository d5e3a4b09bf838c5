"""The contract of storages. `QueueStorage` is the only door to the data.

The docstrings of this package are the contract, and every storage keeps them word for word. The conformance suite,
`jobq_core.testing.StorageContract`, tests a storage against them. The contract has one facet, and one module, for each
part that uses a storage:

- `ProducerStorage` adds jobs.
- `WorkerStorage` claims jobs, settles their runs and keeps workers alive.
- `ReaderStorage` reads jobs and workers.
- `OperatorStorage` aborts, retries, disables, enables and deletes jobs.
- `OperationStorage` keeps bulk operations, and the audit of what operators did.
- `WorkerRequestStorage` passes requests to workers.
- `KeeperStorage` does the maintenance.
- `DiagnosisStorage` examines the database.
- `NotificationStorage` wakes the ones above.

`QueueStorage` is all these facets together, and a storage's life. A storage implements it, best as one mixin per facet.
`LogStorage`, which keeps what handlers logged, is an optional facet: see `QueueStorage.facet`.

These rules hold for every operation:

- It takes and returns batches. Answers are in the order of the input. An empty batch costs nothing.
- It is one transaction: all of it happens, or nothing. An operation that raises has changed nothing, unless the
  connection broke or the time limit passed during the commit or right after it: then the caller cannot know. So each
  operation can be sent again: a repeated `add` is recognized by the job's id, a repeated settlement by its lease, and
  the other operations are idempotent.
- An operation whose caller is cancelled leaves no transaction open. It may still take effect.
- Driver errors never escape: an operation raises StorageUnavailableError for a condition that may pass, StorageError
  for any other, with the driver's error as the cause. Nothing waits forever: each call has a time limit, and raises
  StorageUnavailableError when the limit passes.
- With `connection`, an operation runs in that connection's own transaction: others see what it did when that commits,
  and never if it rolls back; subscriptions are notified at the commit or not at all. It is not sent again. It raises
  ConfigurationError for a connection that the storage cannot use: of another kind, or to another database. A
  serialization failure or a deadlock raises the error of the caller's own driver or framework, so that the caller's
  code recognizes it and repeats the transaction.
- Time is the storage's own clock. A `When` is a moment (an aware datetime) or a number of seconds from the storage's
  now.
- After its commit, it notifies the subscriptions to the topics that the change concerns (see `subscribe`).

The values are msgspec Structs where their fields are neither checked nor converted: attrs takes 0.2 ms to make a class,
at each program's start, and three times as long for each value. A value that is made for every job has `gc=False`, or
it would be most of what the garbage collector visits.
"""

from jobq_core.storage.depths import COUNTED, SAMPLE_SECONDS, SAMPLE_SHARE, Depth, DepthPoint
from jobq_core.storage.diagnosis import DiagnosisStorage, Finding, Severity
from jobq_core.storage.heartbeat import Heartbeat
from jobq_core.storage.keeper import (
    EndedJob,
    Expired,
    FailedJob,
    Follow,
    KeeperStorage,
    Leadership,
    LostWorker,
    Promotion,
    Rescue,
    RescuedJob,
)
from jobq_core.storage.logs import LogLine, LogPart, LogPlace, LogStorage, decode_lines, encode_lines
from jobq_core.storage.notifications import (
    ENDED_TOPIC,
    FINISHED_TOPIC,
    PROGRESS_TOPIC,
    REQUEST_TOPIC,
    WAITING_TOPIC,
    NotificationStorage,
    Subscription,
    blocked_topic,
    queue_topic,
)
from jobq_core.storage.operations import (
    AUDIT_DAYS,
    Action,
    AuditEntry,
    Operation,
    OperationState,
    OperationStorage,
    decode_filter,
)
from jobq_core.storage.operator import Change, OperatorStorage
from jobq_core.storage.producer import Added, NewJob, ProducerStorage, SyncProducer
from jobq_core.storage.queue_options import QueueOptions, QueueOwner, QueueRecord, Retention
from jobq_core.storage.queue_storage import Phase, QueueStorage
from jobq_core.storage.reader import COUNT_LIMIT, SEARCHED, JobFilter, JobStatus, Page, ReaderStorage
from jobq_core.storage.requests import REQUEST_SECONDS, WorkerAction, WorkerRequest, WorkerRequestStorage
from jobq_core.storage.statistics import Histogram, StatisticsRecord, bucket_end, bucket_of, quantile
from jobq_core.storage.worker import WorkerStorage
from jobq_core.storage.worker_values import (
    GATED,
    REFUSED_LIMIT,
    UNFIT_ARGUMENTS,
    UNKNOWN_KIND,
    Claim,
    ClaimedJob,
    LeaseStatus,
    Line,
    ProgressReport,
    SettleAndClaimResult,
    Settlement,
    lease_lost,
)
from jobq_core.timestamps import When

__all__ = [
    "AUDIT_DAYS",
    "COUNTED",
    "COUNT_LIMIT",
    "ENDED_TOPIC",
    "FINISHED_TOPIC",
    "GATED",
    "PROGRESS_TOPIC",
    "REFUSED_LIMIT",
    "REQUEST_SECONDS",
    "REQUEST_TOPIC",
    "SAMPLE_SECONDS",
    "SAMPLE_SHARE",
    "SEARCHED",
    "UNFIT_ARGUMENTS",
    "UNKNOWN_KIND",
    "WAITING_TOPIC",
    "Action",
    "Added",
    "AuditEntry",
    "Change",
    "Claim",
    "ClaimedJob",
    "Depth",
    "DepthPoint",
    "DiagnosisStorage",
    "EndedJob",
    "Expired",
    "FailedJob",
    "Finding",
    "Follow",
    "Heartbeat",
    "Histogram",
    "JobFilter",
    "JobStatus",
    "KeeperStorage",
    "Leadership",
    "LeaseStatus",
    "Line",
    "LogLine",
    "LogPart",
    "LogPlace",
    "LogStorage",
    "LostWorker",
    "NewJob",
    "NotificationStorage",
    "Operation",
    "OperationState",
    "OperationStorage",
    "OperatorStorage",
    "Page",
    "Phase",
    "ProducerStorage",
    "ProgressReport",
    "Promotion",
    "QueueOptions",
    "QueueOwner",
    "QueueRecord",
    "QueueStorage",
    "ReaderStorage",
    "Rescue",
    "RescuedJob",
    "Retention",
    "SettleAndClaimResult",
    "Settlement",
    "Severity",
    "StatisticsRecord",
    "Subscription",
    "SyncProducer",
    "When",
    "WorkerAction",
    "WorkerRequest",
    "WorkerRequestStorage",
    "WorkerStorage",
    "blocked_topic",
    "bucket_end",
    "bucket_of",
    "decode_filter",
    "decode_lines",
    "encode_lines",
    "lease_lost",
    "quantile",
    "queue_topic",
]
