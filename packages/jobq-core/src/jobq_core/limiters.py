"""Limiters: how many jobs may start, and when.

A worker asks its limiter before it claims jobs, so it claims only jobs that may start:

    grant = await limiter.try_acquire(n)     reserves grant.count starts
    await limiter.started(k)                 k of them started now: windows and gaps count from here
    await limiter.release(m)                 m of them do not happen
    await limiter.finished(k)                k runs that started have ended

The methods are coroutines for the sake of limiters that count in a storage. The limiters of this module count in this
process and never wait. Each call is atomic: it holds a lock and has no await.
"""

from __future__ import annotations

import abc
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from jobq_core.checks import Seconds, check_count, check_list, check_positive_seconds
from jobq_core.errors import ConfigurationError
from jobq_core.reprs import short_repr

Scope = Literal["worker"]

MAX_STARTS: Final = 1_000_000_000
"""Highest `max` of a limiter: each start takes memory."""


class Grant(Struct, frozen=True):
    """How many jobs may start, and in how many seconds to ask for the rest.

    retry_in is None where that depends on reserved starts or running jobs: ask again after the next `started`,
    `release` or `finished`.
    """

    count: int
    retry_in: float | None = None


class Limiter(abc.ABC):
    """Base class of limiters."""

    @abc.abstractmethod
    async def try_acquire(self, n: int = 1) -> Grant:
        """Reserve up to `n` starts; the grant says how many were reserved."""

    async def started(self, n: int = 1) -> None:  # noqa: B027  (most limiters need not know)
        """Record that `n` reserved starts happened now."""

    @abc.abstractmethod
    async def release(self, n: int = 1) -> None:
        """Return `n` reserved starts that do not happen."""

    async def finished(self, n: int = 1) -> None:  # noqa: B027
        """Record that `n` started runs have ended."""


class NullLimiter(Limiter):
    """Lets everything through."""

    async def try_acquire(self, n: int = 1) -> Grant:
        return Grant(n)

    async def release(self, n: int = 1) -> None:
        return None


class ConcurrencyLimiter(Limiter):
    """At most `max` runs at the same time. Raises ConfigurationError unless max is a whole number above 0."""

    def __init__(self, max: int, *, scope: Scope = "worker") -> None:
        self._max = check_count(max, "ConcurrencyLimiter: max", least=1, most=MAX_STARTS)
        _check_scope(scope)
        self._taken = 0
        self._lock = threading.Lock()

    async def try_acquire(self, n: int = 1) -> Grant:
        with self._lock:
            count = min(n, self._max - self._taken)
            self._taken += count
        return Grant(count)

    async def release(self, n: int = 1) -> None:
        with self._lock:
            self._taken = max(self._taken - n, 0)

    async def finished(self, n: int = 1) -> None:
        await self.release(n)


class RateLimiter(Limiter):
    """At most `max` starts in every window of `per` (seconds or a timedelta); all `max` may start at once.

    Raises ConfigurationError unless both are above 0.
    """

    def __init__(
        self, max: int, per: Seconds, *, scope: Scope = "worker", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max = check_count(max, "RateLimiter: max", least=1, most=MAX_STARTS)
        self._per = check_positive_seconds(per, "RateLimiter: per")
        _check_scope(scope)
        self._clock = clock
        self._starts: deque[float] = deque()
        self._reserved = 0
        self._lock = threading.Lock()

    async def try_acquire(self, n: int = 1) -> Grant:
        with self._lock:
            now = self._clock()
            while self._starts and self._starts[0] <= now - self._per:
                self._starts.popleft()
            count = min(n, self._max - len(self._starts) - self._reserved)
            self._reserved += count
            if count == n:
                return Grant(count)
            return Grant(count, self._starts[0] + self._per - now if self._starts else None)

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
        self, max: int, per: Seconds, *, scope: Scope = "worker", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._gap = check_positive_seconds(per, f"{type(self).__name__}: per") / check_count(
            max, f"{type(self).__name__}: max", least=1, most=MAX_STARTS
        )
        _check_scope(scope)
        self._clock = clock
        self._last: float | None = None
        self._reserved = False
        self._lock = threading.Lock()

    async def try_acquire(self, n: int = 1) -> Grant:
        with self._lock:
            if self._reserved or n < 1:
                return Grant(0)
            wait = 0.0 if self._last is None else self._last + self._gap - self._clock()
            if wait > 0:
                return Grant(0, wait)
            self._reserved = True
            return Grant(1, None if n == 1 else self._gap)

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
        self, seconds: Seconds, *, scope: Scope = "worker", clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(1, seconds, scope=scope, clock=clock)


class CompositeLimiter(Limiter):
    """Grants the starts that all its limiters grant; retry_in is the longest of theirs."""

    def __init__(self, limiters: Sequence[Limiter]) -> None:
        example = "CompositeLimiter([ConcurrencyLimiter(10), RateLimiter(100, per=60)])"
        self._limiters = tuple(
            check_limiter(one, "CompositeLimiter: each of them")
            for one in check_list(limiters, "the limiters of a CompositeLimiter", example)
        )
        if not self._limiters:
            raise ConfigurationError("CompositeLimiter needs at least one limiter")

    async def try_acquire(self, n: int = 1) -> Grant:
        grants = [await limiter.try_acquire(n) for limiter in self._limiters]
        count = min(grant.count for grant in grants)
        for limiter, grant in zip(self._limiters, grants, strict=True):
            if grant.count > count:
                await limiter.release(grant.count - count)
        waits = [grant.retry_in for grant in grants if grant.retry_in is not None]
        return Grant(count, max(waits, default=None))

    async def started(self, n: int = 1) -> None:
        for limiter in self._limiters:
            await limiter.started(n)

    async def release(self, n: int = 1) -> None:
        for limiter in self._limiters:
            await limiter.release(n)

    async def finished(self, n: int = 1) -> None:
        for limiter in self._limiters:
            await limiter.finished(n)


def check_limiter(limiter: Any, what: str) -> Limiter:
    """Return a limiter; raises ConfigurationError for any other value."""
    if not isinstance(limiter, Limiter):
        raise ConfigurationError(f"{what} must be a Limiter, not {short_repr(limiter)}")
    return limiter


def _check_scope(scope: Any) -> None:
    if scope != "worker":
        raise ConfigurationError(f"scope must be 'worker' (counted in this process), not {short_repr(scope)}")
