"""The conformance suite, area by area."""

from jobq_core.testing.contract.adding import AddingContract
from jobq_core.testing.contract.claiming import ClaimingContract
from jobq_core.testing.contract.control import ControlContract
from jobq_core.testing.contract.leases import LeasesContract
from jobq_core.testing.contract.life import LifeContract
from jobq_core.testing.contract.maintenance import MaintenanceContract
from jobq_core.testing.contract.notifications import NotificationsContract
from jobq_core.testing.contract.reading import ReadingContract
from jobq_core.testing.contract.reference import ReferenceContract
from jobq_core.testing.contract.settling import SettlingContract
from jobq_core.testing.contract.storm import StormContract
from jobq_core.testing.contract.unique import UniqueContract
from jobq_core.testing.contract.workers import WorkersContract


class StorageContract(
    LifeContract,
    AddingContract,
    UniqueContract,
    ClaimingContract,
    SettlingContract,
    LeasesContract,
    ControlContract,
    ReadingContract,
    NotificationsContract,
    WorkersContract,
    MaintenanceContract,
    ReferenceContract,
    StormContract,
):
    """The tests that a storage keeps the contract: the docstrings of `jobq_core.storage`."""


__all__ = ["StorageContract"]
