"""`Autoscaler`: between which numbers a server scales its workers and its processes, and for what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from jobq_core.checks import Seconds, check_count, check_positive_seconds, check_seconds
from jobq_core.errors import ConfigurationError
from jobq_core.reprs import short_repr
from jobq_worker.options import COMMAND_LINE, MAX_CONCURRENCY, MAX_PROCESSES, CommandLine


def _min(value: Any) -> int:
    return check_count(value, "min of an Autoscaler", least=1, most=MAX_CONCURRENCY)


def _max(value: Any) -> int:
    return check_count(value, "max of an Autoscaler", least=1, most=MAX_CONCURRENCY)


def _min_processes(value: Any) -> int:
    return check_count(value, "min_processes", least=1, most=MAX_PROCESSES)


def _max_processes(value: Any) -> int | None:
    return None if value is None else check_count(value, "max_processes", least=1, most=MAX_PROCESSES)


def _target_wait(seconds: Seconds) -> float:
    return check_positive_seconds(seconds, "target_wait")


def _interval(seconds: Seconds) -> float:
    return check_positive_seconds(seconds, "interval")


def _cool_down(seconds: Seconds) -> float:
    return check_seconds(seconds, "cool_down")


@attrs.frozen(kw_only=True)
class Autoscaler:
    """How a server scales its workers: `JobQueueServer(storage, jobs=[…], autoscale=Autoscaler(max=50))`.

    It adds workers as soon as jobs wait, or will wait, longer than target_wait: at most twice as many at a time. It
    removes workers, at most half of them, when fewer were enough for cool_down seconds. Workers that do not make more
    jobs end are removed again: those behind a database or a service that is at its limit.

    With max_processes, it scales the number of processes too, each of which has min to max workers. It adds workers
    within a process while the process waits, as for a network, and processes when it computes: its processor is busy,
    or it has max workers.

    Lengths of time are seconds, or a timedelta. Raises ConfigurationError for an option that cannot work, by its name.
    """

    max: int = attrs.field(
        converter=_max,
        metadata={
            COMMAND_LINE: CommandLine(
                help="Scale the workers up to this number while jobs wait.",
                metavar="N",
                type=int,
                least=1,
                default="no scaling",
            )
        },
    )
    """The largest number of workers, from min to 100,000."""

    min: int = attrs.field(
        default=1,
        converter=_min,
        metadata={
            COMMAND_LINE: CommandLine(
                help="Scale the workers down to this number; needs --max-workers.", metavar="N", type=int, least=1
            )
        },
    )
    """The smallest number of workers, at least 1 (default 1)."""

    max_processes: int | None = attrs.field(
        default=None,
        converter=_max_processes,
        metadata={
            COMMAND_LINE: CommandLine(
                help="Scale the worker processes up to this number while jobs wait and more workers in a process do "
                "not help; needs --max-workers.",
                metavar="N",
                type=int,
                least=1,
                most=MAX_PROCESSES,
                default="no scaling of processes",
            )
        },
    )
    """The largest number of processes, from min_processes to 1,000 (default None: their number stays)."""

    min_processes: int = attrs.field(
        default=1,
        converter=_min_processes,
        metadata={
            COMMAND_LINE: CommandLine(
                help="Scale the worker processes down to this number; needs --max-processes.",
                metavar="N",
                type=int,
                least=1,
                most=MAX_PROCESSES,
            )
        },
    )
    """The smallest number of processes, at least 1 (default 1); needs max_processes."""

    target_wait: float = attrs.field(
        default=5.0,
        converter=_target_wait,
        metadata={
            COMMAND_LINE: CommandLine(
                help="Scale up when jobs wait longer than this for a worker; needs --max-workers.",
                metavar="SECONDS",
                type=float,
            )
        },
    )
    """How many seconds a job may wait for a worker before more workers are added (default 5)."""

    interval: float = attrs.field(default=1.0, converter=_interval)
    """Seconds between two looks (default 1). The storage is asked only while most workers are busy."""

    cool_down: float = attrs.field(default=60.0, converter=_cool_down)
    """Seconds between a change and the next removal of workers (default 60)."""

    def __attrs_post_init__(self) -> None:
        if self.min > self.max:
            raise ConfigurationError(f"min of an Autoscaler ({self.min}) must be at most its max ({self.max})")
        if self.max_processes is None and self.min_processes > 1:
            raise ConfigurationError(f"min_processes of an Autoscaler ({self.min_processes}) needs max_processes")
        if self.max_processes is not None and self.min_processes > self.max_processes:
            raise ConfigurationError(
                f"min_processes of an Autoscaler ({self.min_processes}) must be at most its max_processes "
                f"({self.max_processes})"
            )

    def clamp(self, workers: int) -> int:
        """Return the number between min and max that is closest to this one."""
        return max(self.min, min(workers, self.max))

    @property
    def scales_processes(self) -> bool:
        """Whether it scales the number of processes."""
        return self.max_processes is not None

    def of_processes(self) -> Autoscaler:
        """Return the same for processes instead of workers. Raises ConfigurationError without max_processes."""
        return attrs.evolve(self, max=self.max_processes, min=self.min_processes, max_processes=None, min_processes=1)

    def in_process(self, report: Callable[[Mapping[str, Any]], None]) -> Autoscaler:
        """Return the Autoscaler of one of the processes, whose supervisor takes the reports on their load."""
        if not self.scales_processes:
            return self
        return ProcessAutoscaler(**attrs.asdict(self, recurse=False), report=report)


@attrs.frozen(kw_only=True)
class ProcessAutoscaler(Autoscaler):
    """The Autoscaler of one process of a server that scales their number: it scales the workers of the process.

    report: takes the load of the process at each look.
    """

    report: Callable[[Mapping[str, Any]], None] = attrs.field(eq=False)

    @property
    def scales_processes(self) -> bool:
        """False: the supervisor does."""
        return False


MISSING: Final = "autoscale must be an Autoscaler, such as Autoscaler(min=1, max=50), or None, not "


def check_autoscale(value: Any) -> Autoscaler | None:
    """Return an Autoscaler, or None; raises ConfigurationError for anything else."""
    if value is None or isinstance(value, Autoscaler):
        return value
    raise ConfigurationError(f"{MISSING}{short_repr(value)}")
