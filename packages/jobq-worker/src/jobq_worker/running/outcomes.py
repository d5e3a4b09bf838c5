"""How a handler ended. What follows from it is decided in `settlements`."""

from __future__ import annotations

from msgspec import Struct

from jobq_core.errors import InvalidJobError
from jobq_core.storage import NewJob, Settlement


class Returned(Struct, frozen=True, gc=False):
    """The handler returned. result: as JSON. told: it had noticed that it was asked to stop. jobs: those it added."""

    result: bytes
    told: bool = False
    jobs: tuple[NewJob, ...] = ()


class Unstorable(Struct, frozen=True):
    """The handler returned a value that cannot be stored. error: why. told: as of `Returned`."""

    error: InvalidJobError
    told: bool = False


class Raised(Struct, frozen=True):
    """The handler raised, or was cancelled (asyncio.CancelledError). told: as of `Returned`."""

    error: BaseException
    told: bool = False


class Lost(Struct, frozen=True):
    """The process of the handler has ended. why: one line for the job's error. told: it was killed on request."""

    why: str
    told: bool = False


class Settled(Struct, frozen=True):
    """A process has settled the run, where the handler's exception is. told: as of `Returned`."""

    settlement: Settlement | None
    told: bool


Outcome = Returned | Unstorable | Raised | Lost | Settled
