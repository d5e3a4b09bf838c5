"""The conformance suite, area by area."""

from jobq_core.testing.contract.adding import AddingContract
from jobq_core.testing.contract.claiming import ClaimingContract
from jobq_core.testing.contract.control import ControlContract
from jobq_core.testing.contract.leases import HoldingContract
from jobq_core.testing.contract.life import LifeContract
from jobq_core.testing.contract.maintenance import UpkeepContract
from jobq_core.testing.contract.notifications import DoorbellContract
from jobq_core.testing.contract.reading import ReadingContract
from jobq_core.testing.contract.reference import ReferenceContract
from jobq_core.testing.contract.settling import SettlingContract
from jobq_core.testing.contract.storm import StormContract
from jobq_core.testing.contract.unique import UniqueContract
from jobq_core.testing.contract.working import WorkingContract


class StorageContract(
    LifeContract,
    AddingContract,
    UniqueContract,
    ClaimingContract,
    SettlingContract,
    HoldingContract,
    ControlContract,
    ReadingContract,
    DoorbellContract,
    WorkingContract,
    UpkeepContract,
    ReferenceContract,
    StormContract,
):
    """What every storage must do, as the docstrings of `jobq_core.storage` say it."""


__all__ = ["StorageContract"]
