"""`Supervisor`: keeps a number of worker processes running, changes their number, and stops them together.

It decides, and does not wait: `step` reads what the children sent, looks which ended, and starts and signals them by
an injected clock. `processes` makes real children and waits between two steps.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from jobq_worker.liveness.loop_watch import TICK_SECONDS
from jobq_worker.processes.exits import ExitCode
from jobq_worker.processes.supervised import DONE, ENDED, Child, Process, describe_exit

logger = logging.getLogger("jobq.worker")

FIRST_BACKOFF_SECONDS: Final = 0.5
"""Time before the restart of a child that crashed; each further crash doubles it."""
MAX_BACKOFF_SECONDS: Final = 60.0
HEALTHY_SECONDS: Final = 60.0
"""Time after which an earlier crash of a child does not count any more."""
SECOND_SIGNAL_SECONDS: Final = 1.5
"""Time between two signals to a child that must stop at once: signals within a second count as one."""
STUCK_KILL_SECONDS: Final = 5.0
"""Time from the first signal to SIGKILL for a stuck child: it needs some to log its stack and exit."""
KILL_SECONDS: Final = 40.0
"""Time beyond the stop timeout after which a child that stops is killed: a child ends itself after 30 s."""
END_SECONDS: Final = 10.0
"""Time from the end of a child's worker to the end of its process, which then is killed."""


class Supervisor:
    """Starts `count` children, restarts those that end, and stops all of them.

    The first child starts alone, so that an error at the start, which ends the supervisor, is reported once. A child
    that crashes, or cannot be started later, is restarted with a backoff, one that ends with code 0 at once. A child
    that has sent nothing for `lost_after` seconds is stuck: it is stopped by force and restarted. `add` and `retire`
    change their number.

    start: starts child number n. reloads: whether the children are restarted when the source changes; one that fails
        is then restarted at the next change. stop_timeout: seconds that the children wait for running jobs. A child
        reports those of its worker.
    """

    def __init__(
        self,
        start: Callable[[int], Process],
        count: int,
        *,
        lost_after: float,
        stop_timeout: float,
        reloads: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start
        self._reloads = reloads
        self._clock = clock
        self._stepped_at = clock()
        self._stopping = False
        self._served = reloads
        self._children = [Child(number, clock(), lost_after, stop_timeout) for number in range(1, count + 1)]
        self.exit_code = 0
        """The highest exit code of a child at the stop; a killed child counts as ExitCode.BLOCKED."""

    @property
    def children(self) -> Sequence[Child]:
        """The children that there are to be, whether their processes run or not; by number."""
        return [child for child in self._children if not child.retired]

    @property
    def finished(self) -> bool:
        """Whether no child runs and none will be started."""
        return all(child.process is None and (child.done or self._stopping) for child in self._children)

    @property
    def stopping(self) -> bool:
        """Whether the children are to stop."""
        return self._stopping

    @property
    def serves(self) -> bool:
        """Whether the worker of each child has started, but for those that were added meanwhile."""
        return all(
            child.done or child.joining or (child.ready and child.process is not None) for child in self.children
        )

    def processes(self) -> Sequence[Process]:
        """Return the children that run, retired ones included."""
        return [process for child in self._children if (process := child.process) is not None]

    def loads(self) -> Mapping[int, Mapping[str, Any]]:
        """Return what each process has reported last of its load, by the process's id."""
        return {
            process.pid: child.load
            for child in self.children
            if (process := child.process) is not None and child.load is not None
        }

    def step(self) -> float:
        """Do what is due; return the seconds until the next step, unless a child sends something or ends."""
        now = self._clock()
        # A pause of the supervisor itself, such as SIGSTOP, does not make its children stuck.
        passed, self._stepped_at = min(now - self._stepped_at, 2 * TICK_SECONDS), now
        for child in self._children:
            if child.process is not None:
                self._watch(child, child.process, passed, now)
        # Replaced, not changed: another thread may go through them.
        self._children = [child for child in self._children if child.process is not None or not child.retired]
        for child in self._children:
            if self._is_due(child, now):
                self._begin(child, now)
        return self._pause(now)

    def _begin(self, child: Child, now: float) -> None:
        try:
            process = self._start(child.number)
        except OSError as error:  # no memory, or as many processes or open files as the system allows
            if not self._served:
                raise
            seconds = _fail(child, now)
            logger.error("process %d cannot be started: %s; tried again in %g s", child.number, error, seconds)
        else:
            child.begin(process, now)

    def _is_due(self, child: Child, now: float) -> bool:
        if child.process is not None or child.done or self._stopping or now < child.start_at:
            return False
        return self._served or child is self._children[0]

    def stop(self, reason: str) -> None:
        """Stop the children as on SIGTERM; a second call stops their running jobs at once."""
        now = self._clock()
        logger.info("%s received: stopping the processes (%d)", reason, len(self.processes()))
        again, self._stopping = self._stopping, True
        for child in self._children:
            if again or not child.retired:  # a retired one stops already
                self._stop_child(child, now, 0.0 if again else child.stop_timeout)

    def add(self, count: int) -> None:
        """Have so many children more. They get the lowest free numbers."""
        taken = {child.number for child in self._children}
        free = [number for number in range(1, len(taken) + count + 1) if number not in taken]
        first, now = self._children[0], self._clock()
        added = [Child(number, now, first.lost_after, first.stop_timeout) for number in free[:count]]
        for child in added:
            child.joining = True
        self._children = sorted([*self._children, *added], key=lambda child: child.number)

    def retire(self, number: int) -> None:
        """Stop a child as on SIGTERM, so that its running jobs end or are handed back, and do not restart it."""
        for child in self.children:
            if child.number == number:
                child.retired = True
                self._stop_child(child, self._clock(), child.stop_timeout)

    def _stop_child(self, child: Child, now: float, timeout: float) -> None:
        child.end((now, signal.SIGTERM), (now + timeout + KILL_SECONDS, signal.SIGKILL))

    def reload(self) -> None:
        """Restart all children: their running jobs are released."""
        now = self._clock()
        for child in self.children:
            child.start_at = now
            if child.process is not None and not child.reloading:
                child.reloading = True
                child.end(
                    (now, signal.SIGTERM),
                    (now + SECOND_SIGNAL_SECONDS, signal.SIGTERM),
                    (now + KILL_SECONDS, signal.SIGKILL),
                )

    def _watch(self, child: Child, process: Process, passed: float, now: float) -> None:
        code = process.poll()
        self._receive(child, process.read(), passed, now)
        if code is not None:
            child.process = None
            self._ended(child, process.pid, code, now)
            return
        if child.ready and child.silent >= child.lost_after and not child.ending:
            logger.error(
                "process %d (pid %d) is stuck: its event loop has been blocked for %.1f s; it is killed",
                child.number,
                process.pid,
                child.silent,
            )
            child.end(
                (now, signal.SIGTERM),
                (now + SECOND_SIGNAL_SECONDS, signal.SIGTERM),
                (now + STUCK_KILL_SECONDS, signal.SIGKILL),
            )
        while child.signals and child.signals[0][0] <= now:
            process.send_signal(child.signals.pop(0)[1])

    def _receive(self, child: Child, messages: Sequence[str], passed: float, now: float) -> None:
        """Take in what a child has sent."""
        child.silent = 0.0 if messages else child.silent + passed
        for message in messages:
            child.receive(message)
        self._served = self._served or child.ready
        if ENDED in messages or DONE in messages:
            child.end((now + END_SECONDS, signal.SIGKILL))

    def _ended(self, child: Child, pid: int, code: int, now: float) -> None:
        said = f"process {child.number} (pid {pid}) ended with {describe_exit(code)}"
        if self._stopping and not child.ready:
            return  # it was stopped during its start, and ran nothing
        if self._stopping:
            self.exit_code = max(self.exit_code, code if code >= 0 else ExitCode.BLOCKED)
            if code:
                logger.error("%s", said)
        elif child.retired:
            logger.log(logging.ERROR if code and child.ready else logging.INFO, "%s; it is needed no more", said)
        elif child.reloading:
            child.start_at = now
        elif child.done and code == 0:
            logger.info("%s", said)
        elif code == 0:
            child.done, child.crashes, child.start_at = False, 0, now
            logger.info("%s; it is restarted", said)
        elif not self._served:
            self.exit_code = code if code > 0 else 1
            self._stopping = True
        elif self._reloads:
            child.start_at = float("inf")
            logger.error("%s; it is restarted when the source changes", said)
        else:
            child.done = False
            if now - child.started_at >= HEALTHY_SECONDS:
                child.crashes = 0
            logger.error("%s; it is restarted in %g s", said, _fail(child, now))

    def _pause(self, now: float) -> float:
        dues = [child.signals[0][0] for child in self._children if child.signals]
        if not self._stopping:
            dues += [child.start_at for child in self._children if self._is_due(child, float("inf"))]
        return max(min([TICK_SECONDS, *(due - now for due in dues)]), 0.0)


def _fail(child: Child, now: float) -> float:
    """Start a child again after a backoff; return its length in seconds."""
    child.crashes += 1
    seconds: float = min(FIRST_BACKOFF_SECONDS * 2 ** (child.crashes - 1), MAX_BACKOFF_SECONDS)
    child.start_at = now + seconds
    return seconds
