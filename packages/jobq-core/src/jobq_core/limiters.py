"""Limiters: how many jobs may start, and when.

A worker asks its limiter before it claims jobs, so it claims only jobs that may start:

    await limiter.open(storage, worker)      before the first call, and again when the worker registers again
    grant = await limiter.acquire(n)         reserves grant.count starts
    await limiter.started(k)                 k of them start now: windows and gaps count from here
    await limiter.release(m)                 m of them do not happen
    await limiter.finished(k)                k runs that started have ended
    await limiter.close()                    after the last call

The methods are coroutines for the sake of limiters that count in a storage. The limiters of this module count in this
process and never wait. Each call is atomic: it holds a lock and has no await.

A worker bounds each call in time, and no error of a limiter ends it: it logs the error, reports itself unhealthy, and
asks again after a backoff. What fails is not repeated:

- an `acquire` that raises must have reserved nothing;
- a `started` that raises counts all the same, so `finished` follows; the job is released;
- a `release` or `finished` that raises counts as done.
"""

from __future__ import annotations

import abc
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from msgspec import Struct

from jobq_core.checks import Seconds, check_count, check_list, check_positive_seconds
from jobq_core.errors import ConfigurationError
from jobq_core.job import check_name
from jobq_core.reprs import short_repr

if TYPE_CHECKING:
    from jobq_core.storage import QueueStorage

Scope = Literal["worker"]

MAX_STARTS: Final = 1_000_000_000
"""Highest `max` of a limiter: each start takes memory."""


class Grant(Struct, frozen=True):
    """How many jobs may start, and in how many seconds to ask for the rest.

    retry_in: None where that depends on reserved starts or running jobs: ask again after the next `started`, `release`
        or `finished`.
    limiter: the name of the limiter that granted less than was asked for; empty where all was granted.
    """

    count: int
    retry_in: float | None = None
    limiter: str = ""


class Limiter(abc.ABC):
    """Base class of limiters. Its methods are called on the event loop of the worker, by one worker or by several."""

    name: str = "limiter"
    """What logs and `Grant.limiter` call it. The limiters of this module take it as the keyword `name`."""

    async def open(self, storage: QueueStorage, worker: UUID) -> None:  # noqa: B027  (most need neither)
        """Prepare to grant starts to the worker with this registration, on its storage.

        Called before the first `acquire`, and again with the new id when the worker registers again after it was taken
        for lost. Grants of a registration that is gone are free.
        """

    async def close(self) -> None:  # noqa: B027
        """Release what `open` acquired. Called when the worker stops."""

    @abc.abstractmethod
    async def acquire(self, n: int = 1) -> Grant:
        """Reserve up to `n` starts; the grant says how many were reserved."""

    async def started(self, n: int = 1) -> None:  # noqa: B027  (most limiters need not know)
        """Record that `n` reserved starts happen now."""

    @abc.abstractmethod
    async def release(self, n: int = 1) -> None:
        """Return `n` reserved starts that do not happen."""

    async def finished(self, n: int = 1) -> None:  # noqa: B027
        """Record that `n` started runs have ended."""


class NullLimiter(Limiter):
    """Lets everything through."""

    name = "none"

    async def acquire(self, n: int = 1) -> Grant:
        return Grant(n)

    async def release(self, n: int = 1) -> None:
        return None


class ConcurrencyLimiter(Limiter):
    """At most `max` runs at the same time. Raises ConfigurationError unless max is a whole number above 0."""

    def __init__(self, max: int, *, scope: Scope = "worker", name: str = "concurrency") -> None:
        self.name = check_name(name, "the name of a limiter")
        self._max = check_count(max, "ConcurrencyLimiter: max", least=1, most=MAX_STARTS)
        _check_scope(scope)
        self._taken = 0
        self._lock = threading.Lock()

    async def acquire(self, n: int = 1) -> Grant:
        with self._lock:
            count = min(n, self._max - self._taken)
            self._taken += count
        return Grant(count) if count == n else Grant(count, limiter=self.name)

    async def release(self, n: int = 1) -> None:
        with self._lock:
            self._taken = max(self._taken - n, 0)

    async def finished(self, n: int = 1) -> None:
        await self.release(n)


class RateLimiter(Limiter):
    """At most `max` starts in every window of `per` (seconds or a timedelta); all `max` may start at the same moment.

    Raises ConfigurationError unless both are above 0.
    """

    def __init__(
        self,
        max: int,
        per: Seconds,
        *,
        scope: Scope = "worker",
        name: str = "rate",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = check_name(name, "the name of a limiter")
        self._max = check_count(max, "RateLimiter: max", least=1, most=MAX_STARTS)
        self._per = check_positive_seconds(per, "RateLimiter: per")
        _check_scope(scope)
        self._clock = clock
        self._starts: deque[float] = deque()
        self._reserved = 0
        self._lock = threading.Lock()

    async def acquire(self, n: int = 1) -> Grant:
        with self._lock:
            now = self._clock()
            while self._starts and self._starts[0] <= now - self._per:
                self._starts.popleft()
            count = min(n, self._max - len(self._starts) - self._reserved)
            self._reserved += count
            if count == n:
                return Grant(count)
            return Grant(count, self._starts[0] + self._per - now if self._starts else None, self.name)

    async def started(self, n: int = 1) -> None:
        with self._lock:
            self._reserved -= n
            self._starts.extend([self._clock()] * n)

    async def release(self, n: int = 1) -> None:
        with self._lock:
            self._reserved -= n


class EvenlySpacedRateLimiter(Limiter):
    """`max` starts per `per` (seconds or a timedelta), at least per/max between one start and the next; no bursts.

    Raises ConfigurationError unless both are above 0.
    """

    def __init__(
        self,
        max: int,
        per: Seconds,
        *,
        scope: Scope = "worker",
        name: str = "evenly spaced rate",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = check_name(name, "the name of a limiter")
        self._gap = check_positive_seconds(per, f"{type(self).__name__}: per") / check_count(
            max, f"{type(self).__name__}: max", least=1, most=MAX_STARTS
        )
        _check_scope(scope)
        self._clock = clock
        self._last: float | None = None
        self._reserved = False
        self._lock = threading.Lock()

    async def acquire(self, n: int = 1) -> Grant:
        with self._lock:
            if n < 1:
                return Grant(0)
            if self._reserved:
                return Grant(0, limiter=self.name)
            wait = 0.0 if self._last is None else self._last + self._gap - self._clock()
            if wait > 0:
                return Grant(0, wait, self.name)
            self._reserved = True
            return Grant(1) if n == 1 else Grant(1, self._gap, self.name)

    async def started(self, n: int = 1) -> None:
        with self._lock:
            self._reserved = False
            self._last = self._clock()

    async def release(self, n: int = 1) -> None:
        with self._lock:
            self._reserved = False


class DelayLimiter(EvenlySpacedRateLimiter):
    """At least `seconds` (or a timedelta) between one start and the next. Raises ConfigurationError unless above 0."""

    def __init__(
        self,
        seconds: Seconds,
        *,
        scope: Scope = "worker",
        name: str = "delay",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(1, seconds, scope=scope, name=name, clock=clock)


class CompositeLimiter(Limiter):
    """Grants the starts that all its limiters grant; retry_in is the longest of theirs.

    Each call reaches all of them, whatever one of them raises; then the first error is raised. An `acquire` that
    raises, or is cancelled, has given back what was reserved.
    """

    def __init__(self, limiters: Sequence[Limiter], *, name: str = "composite") -> None:
        self.name = check_name(name, "the name of a limiter")
        example = "CompositeLimiter([ConcurrencyLimiter(10), RateLimiter(100, per=60)])"
        self._limiters = tuple(
            check_limiter(one, "CompositeLimiter: each of them")
            for one in check_list(limiters, "the limiters of a CompositeLimiter", example)
        )
        if not self._limiters:
            raise ConfigurationError("CompositeLimiter needs at least one limiter")

    async def open(self, storage: QueueStorage, worker: UUID) -> None:
        await _all([limiter.open(storage, worker) for limiter in self._limiters])

    async def close(self) -> None:
        await _all([limiter.close() for limiter in self._limiters])

    async def acquire(self, n: int = 1) -> Grant:
        grants: list[Grant] = []
        try:
            for limiter in self._limiters:
                grants.append(await limiter.acquire(n))
        except BaseException:
            await self._give_back(grants, 0)
            raise
        fewest = min(grants, key=lambda grant: grant.count)
        await self._give_back(grants, fewest.count)
        waiting = [grant for grant in grants if grant.retry_in is not None]
        last = max(waiting, key=lambda grant: grant.retry_in or 0.0, default=fewest)
        return Grant(fewest.count, last.retry_in, last.limiter)

    async def _give_back(self, grants: Sequence[Grant], kept: int) -> None:
        pairs = zip(self._limiters, grants, strict=False)  # after an error, fewer grants than limiters
        await _all([limiter.release(grant.count - kept) for limiter, grant in pairs if grant.count > kept])

    async def started(self, n: int = 1) -> None:
        await _all([limiter.started(n) for limiter in self._limiters])

    async def release(self, n: int = 1) -> None:
        await _all([limiter.release(n) for limiter in self._limiters])

    async def finished(self, n: int = 1) -> None:
        await _all([limiter.finished(n) for limiter in self._limiters])


async def _all(calls: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Await every call, and then raise the first error."""
    first: BaseException | None = None
    for call in calls:
        try:
            await call
        except BaseException as error:  # noqa: BLE001  (raised below)
            first = first or error
    if first is not None:
        raise first


def check_limiter(limiter: Any, what: str) -> Limiter:
    """Return a limiter; raises ConfigurationError for any other value."""
    if not isinstance(limiter, Limiter):
        raise ConfigurationError(f"{what} must be a Limiter, not {short_repr(limiter)}")
    return limiter


def _check_scope(scope: Any) -> None:
    if scope != "worker":
        raise ConfigurationError(f"scope must be 'worker' (counted in this process), not {short_repr(scope)}")
