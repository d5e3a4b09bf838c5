"""Jobs as a client added them, and as the worker that runs them declares them after a change."""

from __future__ import annotations

from typing import Any

from jobq_core import Backoff, Job, RetryPolicy, job

AT_ONCE = RetryPolicy(backoff=Backoff(base=0))


@job(name="changed", max_attempts=2)
def submitted(size: int) -> int:
    return size


@job(name="changed", max_attempts=2, retry=AT_ONCE)
async def changed(size: int, colour: str) -> str:
    return colour * size


@job(max_attempts=2, retry=AT_ONCE)
async def sound(number: int) -> int:
    return number


@job(name="nobody knows it")
def unknown() -> None: ...


@job(fingerprint=True)
class Anything(Job[Any]):
    value: Any

    async def execute(self) -> Any:
        return self.value
