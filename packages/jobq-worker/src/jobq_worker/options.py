"""`WorkerOptions`: the options of a worker as one checked value.

Each option is a field, written once. `JobQueueWorker`, `JobQueueServer`, `JobQueue` and the commands `jobq worker` and
`jobq server` take their options from these fields; `check_options` turns keywords into the value. The TypedDicts below
give the same options to type checkers.
"""

from __future__ import annotations

import difflib
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypedDict

import attrs

from jobq_core.checks import Seconds, check_bool, check_count, check_list, check_positive_seconds, check_seconds
from jobq_core.errors import ConfigurationError
from jobq_core.job import Job, check_name
from jobq_core.limiters import Limiter, NullLimiter, check_limiter
from jobq_core.registry import Jobs, Registry
from jobq_core.reprs import short_repr
from jobq_core.storage import Retention
from jobq_worker.sizes import check_size

MAX_CONCURRENCY: Final = 100_000
"""Maximum number of slots of one worker: each slot takes its memory at once."""

MAX_PROCESSES: Final = 1_000
"""Maximum number of processes of one supervisor."""

COMMAND_LINE: Final = "command_line"
"""The metadata key of a field that is an option of the commands too; its value is a `CommandLine`."""


class PoolOptions(TypedDict, total=False):
    """The options that a worker, a server and a JobQueue share; `WorkerOptions` describes each."""

    limiter: Limiter | None
    retention: Retention | Mapping[str, Retention] | None
    heartbeat_interval: Seconds
    lost_after: Seconds
    poll_interval: Seconds
    stop_timeout: Seconds
    max_hung: int | None
    exit_when_hung: bool
    process_limit: int | None
    process_max_jobs: int | None
    process_max_memory: int | str | None
    metrics_port: int | None
    metrics_host: str
    keep_logs: int | str | None


class ServingOptions(PoolOptions, total=False):
    """The options that a worker and a server share; `WorkerOptions` describes each."""

    jobs: Jobs
    queues: Sequence[str] | None
    name: str | None
    burst: bool
    max_jobs: int | None
    max_memory: int | str | None


class WorkerKeywords(ServingOptions, total=False):
    """The options of a worker; `WorkerOptions` describes each."""

    concurrency: int


class Size:
    """The type of an option that is an amount of memory: see `check_size`."""


@attrs.frozen(kw_only=True)
class CommandLine:
    """How a field appears on the command line. type: of the value; an int is a count, a bool a flag. least, most: the
    range of an int.

    flag: the option's name (default: made from the field's name). repeated: whether it may be given several times.
    default: shown in the help where the field's own default would say little.
    """

    help: str
    metavar: str
    type: type[int] | type[float] | type[str] | type[bool] | type[Size] = str
    least: int = 0
    most: int | None = MAX_CONCURRENCY
    flag: str | None = None
    repeated: bool = False
    default: str | None = None


def _seconds(help: str) -> dict[str, CommandLine]:
    return {COMMAND_LINE: CommandLine(help=help, metavar="SECONDS", type=float)}


def check_concurrency(value: Any, what: str = "concurrency") -> int:
    """Return a number of slots, from 0 to 100,000; raises ConfigurationError otherwise."""
    return check_count(value, what, most=MAX_CONCURRENCY)


def check_queues(queues: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return queue names without repetitions, or None for None; raises ConfigurationError otherwise."""
    if queues is None:
        return None
    names = check_list(queues, "queues", "queues=['default']")
    if not names:
        raise ConfigurationError("queues must be a list of at least one name, as in queues=['default'], not []")
    return tuple(dict.fromkeys(_queue(name) for name in names))


def _queue(name: Any) -> str:
    queue = check_name(name, "a queue")
    if "," in queue:
        parts = [part.strip() for part in queue.split(",") if part.strip()]
        raise ConfigurationError(
            f"{short_repr(queue)} is one queue with a comma in its name; for several queues write queues={parts!r}, "
            f"or {' '.join(f'--queue {part}' for part in parts)} on the command line"
        )
    return queue


def check_retention(retention: Any) -> Retention | Mapping[str, Retention]:
    """Return one Retention, or one for each queue ({} for None); raises ConfigurationError otherwise."""
    if retention is None:
        return {}
    if isinstance(retention, Retention):
        return retention
    if not isinstance(retention, Mapping) or not all(isinstance(kept, Retention) for kept in retention.values()):
        raise ConfigurationError(
            "retention must be a Retention, or one for each queue, as in retention={'mail': Retention(failed=None)}, "
            f"not {short_repr(retention)}"
        )
    return {check_name(queue, "a queue"): kept for queue, kept in retention.items()}


def _jobs(jobs: Jobs) -> tuple[type[Job[Any]], ...]:
    return tuple(definition.job_type for definition in Registry(jobs))


def _limiter(limiter: Limiter | None) -> Limiter | None:
    return None if limiter is None or isinstance(check_limiter(limiter, "limiter"), NullLimiter) else limiter


def _name(name: str | None) -> str:
    return check_name(socket.gethostname() if name is None else name, "the name of a worker")


def _heartbeat_interval(seconds: Seconds) -> float:
    return check_positive_seconds(seconds, "heartbeat_interval")


def _lost_after(seconds: Seconds) -> float:
    return check_positive_seconds(seconds, "lost_after")


def _poll_interval(seconds: Seconds) -> float:
    return check_positive_seconds(seconds, "poll_interval")


def _max_hung(count: int | None) -> int | None:
    return None if count is None else check_concurrency(count, "max_hung")


def _process_limit(count: int | None) -> int | None:
    return None if count is None else check_count(count, "process_limit", least=1, most=MAX_CONCURRENCY)


def _process_max_jobs(count: int | None) -> int | None:
    return None if count is None else check_count(count, "process_max_jobs", least=1)


def _process_max_memory(size: int | str | None) -> int | None:
    return None if size is None else check_size(size, "process_max_memory")


def _exit_when_hung(value: bool) -> bool:
    return check_bool(value, "exit_when_hung")


def _burst(value: bool) -> bool:
    return check_bool(value, "burst")


def _max_jobs(count: int | None) -> int | None:
    return None if count is None else check_count(count, "max_jobs", least=1)


def _max_memory(size: int | str | None) -> int | None:
    return None if size is None else check_size(size, "max_memory")


def _metrics_port(port: int | None) -> int | None:
    return None if port is None else check_count(port, "metrics_port", most=65_535)


def _metrics_host(host: str) -> str:
    return check_name(host, "metrics_host: the name of a host")


def check_level(level: int | str, what: str) -> int:
    """Return a level of `logging` as a number; raises ConfigurationError for one that does not exist."""
    names = logging.getLevelNamesMapping()
    found = names.get(level.upper()) if isinstance(level, str) else level
    if type(found) is not int or found < 0:
        known = ", ".join(dict.fromkeys(name.lower() for name in names))
        raise ConfigurationError(f"{what} must be a level of logging ({known}) or its number, not {short_repr(level)}")
    return found


def _keep_logs(level: int | str | None) -> int | None:
    return None if level is None else check_level(level, "keep_logs")


def _stop_timeout(seconds: Seconds) -> float:
    return check_seconds(seconds, "stop_timeout")


@attrs.frozen(kw_only=True)
class WorkerOptions:
    """How a worker works. Lengths of time are seconds, or a timedelta.

    Raises ConfigurationError for an option that cannot work, by its name.
    """

    jobs: tuple[type[Job[Any]], ...] = attrs.field(default=(), converter=_jobs)
    """The jobs that the worker can run: declared functions and classes, or modules to take all of them from."""

    queues: tuple[str, ...] | None = attrs.field(
        default=None,
        converter=check_queues,
        metadata={
            COMMAND_LINE: CommandLine(
                help="Claim jobs from this queue; may be given several times.",
                metavar="NAME",
                flag="--queue",
                repeated=True,
                default="those that the jobs declare",
            )
        },
    )
    """The queues to take jobs from, in turns (default: the queues that the jobs declare, and 'default' for jobs that
    declare no queue)."""

    concurrency: int = attrs.field(
        default=10,
        converter=check_concurrency,
        metadata={COMMAND_LINE: CommandLine(help="Run this many jobs at the same time.", metavar="N", type=int)},
    )
    """How many jobs run at the same time, from 0 to 100,000 (default 10); 0 pauses. A server calls it worker_count."""

    limiter: Limiter | None = attrs.field(default=None, converter=_limiter)
    """Asked before jobs are claimed (default: no limit)."""

    retention: Retention | Mapping[str, Retention] = attrs.field(default=None, converter=check_retention)
    """How long finished jobs are kept: one Retention for all the worker's queues, or one for each queue (default: as
    the storage has it)."""

    name: str = attrs.field(
        default=None,
        converter=_name,
        metadata={COMMAND_LINE: CommandLine(help="The worker's name.", metavar="NAME", default="the host's name")},
    )
    """The worker's name in logs and lists (default: the host's name)."""

    heartbeat_interval: float = attrs.field(
        default=10.0, converter=_heartbeat_interval, metadata=_seconds("Interval between two heartbeats.")
    )
    """Seconds between two heartbeats (default 10)."""

    lost_after: float = attrs.field(
        default=30.0,
        converter=_lost_after,
        metadata=_seconds("Time without a heartbeat after which other workers rescue its jobs."),
    )
    """Seconds without a heartbeat after which other workers take the jobs over (default 30); at least twice
    heartbeat_interval."""

    poll_interval: float = attrs.field(
        default=1.0,
        converter=_poll_interval,
        metadata=_seconds("Interval between two claims of an idle worker that receives no notifications."),
    )
    """Seconds between two claims of an idle worker that gets no notifications (default 1)."""

    stop_timeout: float = attrs.field(
        default=30.0,
        converter=_stop_timeout,
        metadata=_seconds(
            "On SIGTERM or SIGINT, wait this long for running jobs; a second signal stops them immediately."
        ),
    )
    """Seconds that running jobs have to end when the worker stops (default 30)."""

    max_hung: int | None = attrs.field(
        default=None,
        converter=_max_hung,
        metadata={
            COMMAND_LINE: CommandLine(
                help="Replace the slots of at most this many handlers that keep running past their time limit; "
                "with more, the worker is unhealthy.",
                metavar="N",
                type=int,
                default="the number of slots",
            )
        },
    )
    """How many handlers that go on past their time limit get a slot in place of theirs (default: as many as there are
    slots). With more, the worker is not healthy."""

    exit_when_hung: bool = attrs.field(
        default=False,
        converter=_exit_when_hung,
        metadata={
            COMMAND_LINE: CommandLine(
                help="Stop, and exit with code 5, when more handlers hang than --max-hung.", metavar="", type=bool
            )
        },
    )
    """Whether `run` stops the worker and exits with `ExitCode.HUNG` when more handlers hang than max_hung (default
    False)."""

    burst: bool = attrs.field(
        default=False,
        converter=_burst,
        metadata={
            COMMAND_LINE: CommandLine(
                help="Stop, and exit with 0, when the queues are empty and nothing runs.", metavar="", type=bool
            )
        },
    )
    """Whether `run` stops the worker when it runs nothing and its queues have no job that is due (default False). Jobs
    that are scheduled for later, and those of paused queues, are not waited for."""

    max_jobs: int | None = attrs.field(
        default=None,
        converter=_max_jobs,
        metadata={
            COMMAND_LINE: CommandLine(
                help="Stop after this many jobs; with --processes, each child is then replaced.",
                metavar="N",
                type=int,
                least=1,
                most=None,
                default="no limit",
            )
        },
    )
    """The number of jobs after which `run` stops the worker: no other starts, and the running ones end (default: no
    limit)."""

    max_memory: int | None = attrs.field(
        default=None,
        converter=_max_memory,
        metadata={
            COMMAND_LINE: CommandLine(
                help="Stop when the process has more memory than this, such as 500MB or 2GiB; with --processes, the "
                "child is then replaced.",
                metavar="BYTES",
                type=Size,
                default="no limit",
            )
        },
    )
    """The memory of the process, in bytes or as text such as '500MB', above which `run` stops the worker; running jobs
    end first (default: no limit)."""

    process_limit: int | None = attrs.field(
        default=None,
        converter=_process_limit,
        metadata={
            COMMAND_LINE: CommandLine(
                help="Run at most this many jobs of executor='process' at the same time.",
                metavar="N",
                type=int,
                default="the number of slots",
                least=1,
            )
        },
    )
    """How many processes run jobs of `executor="process"`, at least 1 (default: as many as there are slots). Further
    jobs wait in their slots."""

    process_max_jobs: int | None = attrs.field(
        default=None,
        converter=_process_max_jobs,
        metadata={
            COMMAND_LINE: CommandLine(
                help="Replace a process of executor='process' after this many jobs.",
                metavar="N",
                type=int,
                default="never",
                least=1,
                most=None,
            )
        },
    )
    """After how many jobs another process takes the place of a process of `executor="process"` (default: never)."""

    process_max_memory: int | None = attrs.field(
        default=None,
        converter=_process_max_memory,
        metadata={
            COMMAND_LINE: CommandLine(
                help="Replace a process of executor='process' that has more memory than this after a job, such as "
                "500MB or 2GiB.",
                metavar="BYTES",
                type=Size,
                default="never",
            )
        },
    )
    """The memory that a process of `executor="process"` may have after a job, in bytes or as text such as '500MB'; with
    more, another process takes its place (default: no limit)."""

    metrics_port: int | None = attrs.field(
        default=None,
        converter=_metrics_port,
        metadata={
            COMMAND_LINE: CommandLine(
                help="Serve /metrics, /livez and /readyz on this port; with --processes, the second process does so on "
                "the next port, and so on.",
                metavar="PORT",
                type=int,
                most=65_535,
                default="none are served",
            )
        },
    )
    """The port on which `/metrics`, `/livez` and `/readyz` are served while the worker runs, 0 for any free one
    (default: they are not served). Needs the extra `metrics`."""

    metrics_host: str = attrs.field(
        default="127.0.0.1",
        converter=_metrics_host,
        metadata={
            COMMAND_LINE: CommandLine(
                help="Serve them on this address; 0.0.0.0 is every address of the machine.", metavar="ADDRESS"
            )
        },
    )
    """The address on which they are served (default '127.0.0.1'). There is no authentication."""

    keep_logs: int | None = attrs.field(
        default=None,
        converter=_keep_logs,
        metadata={
            COMMAND_LINE: CommandLine(
                help="Keep with each job what its handler logs at this level or above: debug, info, warning, error. "
                "Lines of batch handlers are not kept.",
                metavar="LEVEL",
                default="nothing is kept",
            )
        },
    )
    """The level of `logging`, as 'info' or a number, from which on the records that handlers make are kept with their
    jobs (default: none are). Of each attempt, the first 48 KiB and the last 16 KiB are kept, as they are logged. What
    the loggers' own levels do not let through is not kept, nor what a batch handler logs: its lines belong to several
    jobs. Needs a storage with the facet `LogStorage`, as memory, SQLite and PostgreSQL have."""

    def __attrs_post_init__(self) -> None:
        if self.lost_after < 2 * self.heartbeat_interval:
            raise ConfigurationError(
                f"lost_after ({self.lost_after!r} s) must be at least twice heartbeat_interval "
                f"({self.heartbeat_interval!r} s), or one late beat makes the worker count as lost"
            )

    def retention_of(self, queues: Sequence[str]) -> Mapping[str, Retention]:
        """Return the retention to store for each queue, for a worker of these queues."""
        return dict.fromkeys(queues, self.retention) if isinstance(self.retention, Retention) else self.retention


def check_options(
    owner: str,
    options: Mapping[str, Any],
    *,
    renamed: Mapping[str, str] = {},
    excluded: Mapping[str, str] = {},
) -> WorkerOptions:
    """Return the checked value of keywords that were given to `owner`, such as 'JobQueueServer'.

    renamed: the owner's word for a field, as {"concurrency": "worker_count"}. excluded: fields that the owner does not
    take, each with what to do instead. Raises ConfigurationError for an unknown option and for a value that cannot
    work.
    """
    fields: dict[str, str] = {renamed.get(field.name, field.name): field.name for field in attrs.fields(WorkerOptions)}
    given: dict[str, Any] = {}
    for word, value in options.items():
        field = fields.get(word)
        if field is None or field in excluded:
            known = [own for own, name in fields.items() if name not in excluded]
            raise ConfigurationError(_unknown_option(owner, word, known, renamed, excluded))
        given[field] = value
    for field, word in renamed.items():
        if field in given:
            _CHECKS[field](given[field], word)
    return WorkerOptions(**given)


def given_options(
    owner: str, options: WorkerOptions | None, keywords: Mapping[str, Any], *, renamed: Mapping[str, str] = {}
) -> WorkerOptions:
    """Return the checked value that was given to `owner`, or made of the keywords as `check_options` does.

    Raises ConfigurationError if both are given.
    """
    if options is None:
        return check_options(owner, keywords, renamed=renamed)
    if keywords:
        raise ConfigurationError(f"{', '.join(keywords)}: give either options or keywords, not both")
    return options


_CHECKS: Mapping[str, Callable[[Any, str], Any]] = {"concurrency": check_concurrency}
"""The checks of the fields that may be renamed, so that an error says the owner's word."""


def _unknown_option(
    owner: str, word: str, known: Sequence[str], renamed: Mapping[str, str], excluded: Mapping[str, str]
) -> str:
    said = f"{owner} has no option {word!r}"
    if word in renamed:
        return f"{said}; here it is called {renamed[word]!r}"
    if word in excluded:
        return f"{said}: {excluded[word]}"
    close = difflib.get_close_matches(word, known, n=1)
    return f"{said}; did you mean {close[0]}?" if close else f"{said}; its options are {', '.join(known)}"
