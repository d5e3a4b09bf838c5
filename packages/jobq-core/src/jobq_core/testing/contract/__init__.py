"""The conformance suite, area by area.

Each class shows a part of what the docstrings of `jobq_core.storage` promise:

- LifeContract: opening and closing, cancelled calls, and errors before `open` and after `close`.
- AddingContract, UniqueContract: what `add` stores, repeats and refuses; unique keys and when they are free.
- ClaimingContract, LinesContract, ReturnedLineContract: the order of a claim; its limits, bytes and pauses; the place
  of jobs that are released.
- SettlingContract, FencingContract, LastRequestContract, SnoozeContract, ChildrenContract: where each ending leads;
  that a lease settles once; that the last request holds; runs without an attempt; jobs and progress stored with an
  ending.
- KindsContract: jobs that wait for a worker that knows their kind and takes their arguments.
- TokensContract: headers, `since`, gates, and the ends of followed jobs.
- FollowUpsContract: failures that are kept for a follow-up, and the jobs that are stored when they are resolved.
- LeasesContract, WorkersContract, RescueContract: starts, checks and progress; heartbeats; the jobs of lost workers.
- PromotionContract, ExpiryContract, RetentionContract, LeadershipContract: the maintenance, and when it is due next.
- ControlContract, BulkContract, QueueOptionsContract: changes by hand; of many jobs in chunks; options of queues.
- ReadingContract, SummariesContract, StatisticsContract: `get`, `find`, counts, workers; summaries; statistics.
- NotificationsContract: which change notifies which topic.
- AlteringContract: `run_now`, `reschedule`, `move`, `set_priority`.
- SearchingContract, ParentsContract: `find` and `count` with searches; by the job that added them.
- DepthsContract, StepsContract: depths now and in the past, jobs
  ahead; statistics of longer steps.
- OperationsContract, RequestsContract: operations, the audit, who paused a queue; requests to workers.
- BulkOperationsContract: operations are worked off.
- ReferenceContract: random lives of jobs go as in memory.
- StormContract: many clients and workers at once break no rule.

Storages with the optional facet of logs are tested by `LogsContract` too.

Storages that take the application's connection as `connection=` are tested by `CallersContract`, in the module
`callers`. Its callers are made from those of `jobq_core.testing.callers`.
"""

from jobq_core.testing.contract.adding import AddingContract
from jobq_core.testing.contract.altering import AlteringContract
from jobq_core.testing.contract.bulk import BulkContract
from jobq_core.testing.contract.bulk_operations import BulkOperationsContract
from jobq_core.testing.contract.children import ChildrenContract
from jobq_core.testing.contract.claiming import ClaimingContract
from jobq_core.testing.contract.control import ControlContract
from jobq_core.testing.contract.depths import DepthsContract
from jobq_core.testing.contract.expiry import ExpiryContract
from jobq_core.testing.contract.fencing import FencingContract
from jobq_core.testing.contract.follow_ups import FollowUpsContract
from jobq_core.testing.contract.kinds import KindsContract
from jobq_core.testing.contract.last_request import LastRequestContract
from jobq_core.testing.contract.leadership import LeadershipContract
from jobq_core.testing.contract.leases import LeasesContract
from jobq_core.testing.contract.life import LifeContract
from jobq_core.testing.contract.lines import LinesContract
from jobq_core.testing.contract.logs import LogsContract
from jobq_core.testing.contract.notifications import NotificationsContract
from jobq_core.testing.contract.operations import OperationsContract
from jobq_core.testing.contract.parents import ParentsContract
from jobq_core.testing.contract.promotion import PromotionContract
from jobq_core.testing.contract.queue_options import QueueOptionsContract
from jobq_core.testing.contract.reading import ReadingContract
from jobq_core.testing.contract.reference import ReferenceContract
from jobq_core.testing.contract.requests import RequestsContract
from jobq_core.testing.contract.rescue import RescueContract
from jobq_core.testing.contract.retention import RetentionContract
from jobq_core.testing.contract.returned_line import ReturnedLineContract
from jobq_core.testing.contract.searching import SearchingContract
from jobq_core.testing.contract.settling import SettlingContract
from jobq_core.testing.contract.snooze import SnoozeContract
from jobq_core.testing.contract.statistics import StatisticsContract
from jobq_core.testing.contract.steps import StepsContract
from jobq_core.testing.contract.storm import StormContract
from jobq_core.testing.contract.summaries import SummariesContract
from jobq_core.testing.contract.tokens import TokensContract
from jobq_core.testing.contract.unique import UniqueContract
from jobq_core.testing.contract.workers import WorkersContract


class StorageContract(
    LifeContract,
    AddingContract,
    UniqueContract,
    ClaimingContract,
    SettlingContract,
    FencingContract,
    LeasesContract,
    ControlContract,
    ReadingContract,
    NotificationsContract,
    WorkersContract,
    LeadershipContract,
    PromotionContract,
    RescueContract,
    RetentionContract,
    ReferenceContract,
    StormContract,
    ReturnedLineContract,
    KindsContract,
    LastRequestContract,
    SnoozeContract,
    ChildrenContract,
    ExpiryContract,
    BulkContract,
    LinesContract,
    TokensContract,
    FollowUpsContract,
    QueueOptionsContract,
    SummariesContract,
    StatisticsContract,
    AlteringContract,
    SearchingContract,
    ParentsContract,
    DepthsContract,
    StepsContract,
    OperationsContract,
    RequestsContract,
    BulkOperationsContract,
):
    """The tests that a storage keeps the contract: the docstrings of `jobq_core.storage`."""


__all__ = ["LogsContract", "StorageContract"]
