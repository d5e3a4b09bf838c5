"""`HealthReport`: named checks and whether they hold, as `/livez`, `/readyz` and `jobq health` show them."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec
from msgspec import Struct

from jobq_core.checks import Seconds, check_positive_seconds
from jobq_core.errors import JobQueueError, SchemaError
from jobq_core.storage import QueueStorage

STORAGE_SECONDS: Final = 5.0
"""Time in which a storage must answer, by default."""


class Check(Struct, frozen=True):
    """Whether one thing is as it must be, and the figures that show it."""

    ok: bool
    detail: str


class HealthReport(Struct, frozen=True):
    """The checks by name. All must hold."""

    checks: dict[str, Check]

    @property
    def ok(self) -> bool:
        """Whether all checks hold."""
        return all(check.ok for check in self.checks.values())

    def to_json(self) -> bytes:
        """Return the report as JSON: {"status": "ok" or "failing", "checks": {name: {"ok": …, "detail": …}}}."""
        return msgspec.json.encode({"status": "ok" if self.ok else "failing", "checks": self.checks})


async def examine_storage(storage: QueueStorage, timeout: Seconds = STORAGE_SECONDS) -> HealthReport:
    """Return whether a storage can be reached, how fast it answers, and whether this code works with its schema.

    It is opened, if it is not open, and stays so. timeout: seconds until it counts as unreachable.
    """
    seconds = check_positive_seconds(timeout, "timeout")
    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            await storage.open()
            began = time.monotonic()
            await storage.now()
    except SchemaError as error:
        return HealthReport({"storage": _answered(storage, began), "schema": Check(False, str(error))})
    except TimeoutError:
        return HealthReport({"storage": Check(False, f"{storage.url} did not answer within {seconds:g} s")})
    except JobQueueError as error:
        return HealthReport({"storage": Check(False, f"{type(error).__name__}: {error}")})
    schema = Check(True, "this version works with the tables")
    return HealthReport({"storage": _answered(storage, began), "schema": schema})


def _answered(storage: QueueStorage, began: float) -> Check:
    return Check(True, f"{storage.url} answered in {(time.monotonic() - began) * 1000:.0f} ms")
