"""When a process that was asked to stop is ended by force."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from jobq_worker.liveness.loop_watch import LoopWatch
from jobq_worker.processes.exits import ExitCode
from jobq_worker.processes.stop_guard import STOP_SECONDS, StopGuard


class Guarded:
    """A guard with a stop timeout of 10 s, whose clock and event loop the test plays."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ends: list[tuple[float, ExitCode]] = []
        self.watch = LoopWatch(lambda: self.now)
        self.guard = StopGuard(10.0, self.watch, clock=lambda: self.now, end=self._end)

    def _end(self, code: ExitCode, log: Callable[[], object]) -> None:
        self.ends.append((self.now, code))
        log()

    def until(self, end: float, *, blocked: bool) -> list[float]:
        """Let time pass, with a check every half second; return when the process was to end."""
        while self.now < end and not self.ends:
            self.now += 0.5
            if not blocked:
                self.watch._answer()
            self.guard.check()
        return [at for at, _ in self.ends]


@pytest.fixture
async def guarded() -> Guarded:
    return Guarded()


async def test_a_blocked_loop_ends_the_process_at_the_stop_timeout(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    guarded.guard.asked("SIGTERM")
    assert guarded.until(60.0, blocked=True) == [10.0]
    assert guarded.ends == [(10.0, ExitCode.BLOCKED)]
    first, last = [record.getMessage() for record in caplog.records]
    assert first.startswith("SIGTERM received, but the event loop has been blocked for 1.0 s; a second signal ends")
    assert last.startswith("SIGTERM received, and the worker cannot stop: its event loop is blocked")
    assert "in until\n" in last


async def test_a_second_signal_ends_a_blocked_process_at_once(guarded: Guarded) -> None:
    guarded.guard.asked("SIGTERM")
    assert guarded.until(5.0, blocked=True) == []
    guarded.guard.asked("SIGTERM")
    assert guarded.until(60.0, blocked=True) == [5.5]


async def test_a_loop_that_answers_has_time_to_stop_in_order(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    guarded.guard.asked("SIGINT")
    assert guarded.until(100.0, blocked=False) == [10.0 + STOP_SECONDS]
    assert "its stop takes too long" in caplog.text


async def test_a_loop_that_is_blocked_late_in_the_stop_ends_the_process_then(guarded: Guarded) -> None:
    guarded.guard.asked("SIGTERM")
    guarded.until(20.0, blocked=False)
    assert guarded.until(60.0, blocked=True) == [21.0]
