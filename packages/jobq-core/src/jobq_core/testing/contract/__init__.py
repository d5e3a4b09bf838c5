"""The conformance suite, area by area."""

from jobq_core.testing.contract.adding import AddingContract
from jobq_core.testing.contract.bulk import BulkContract
from jobq_core.testing.contract.children import ChildrenContract
from jobq_core.testing.contract.claiming import ClaimingContract
from jobq_core.testing.contract.control import ControlContract
from jobq_core.testing.contract.expiry import ExpiryContract
from jobq_core.testing.contract.fencing import FencingContract
from jobq_core.testing.contract.kinds import KindsContract
from jobq_core.testing.contract.last_request import LastRequestContract
from jobq_core.testing.contract.leadership import LeadershipContract
from jobq_core.testing.contract.leases import LeasesContract
from jobq_core.testing.contract.life import LifeContract
from jobq_core.testing.contract.lines import LinesContract
from jobq_core.testing.contract.notifications import NotificationsContract
from jobq_core.testing.contract.promotion import PromotionContract
from jobq_core.testing.contract.queue_options import QueueOptionsContract
from jobq_core.testing.contract.reading import ReadingContract
from jobq_core.testing.contract.reference import FullReferenceContract, ReferenceContract
from jobq_core.testing.contract.rescue import RescueContract
from jobq_core.testing.contract.retention import RetentionContract
from jobq_core.testing.contract.returned_line import ReturnedLineContract
from jobq_core.testing.contract.settling import SettlingContract
from jobq_core.testing.contract.snooze import SnoozeContract
from jobq_core.testing.contract.statistics import StatisticsContract
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
):
    """The tests that a storage keeps the contract: the docstrings of `jobq_core.storage`."""


class PromisedContract(
    LinesContract,
    TokensContract,
    QueueOptionsContract,
    SummariesContract,
    StatisticsContract,
    FullReferenceContract,
):
    """The tests of promises that not every storage keeps yet."""


__all__ = ["PromisedContract", "StorageContract"]
