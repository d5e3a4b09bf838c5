"""`WorkerSetup`: what a worker is given before it starts: options, handlers, and what is around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar, overload

import attrs

from jobq_core.errors import ConfigurationError
from jobq_core.events import EventSource
from jobq_core.job import Job
from jobq_core.lifecycle import Lifecycle
from jobq_core.owned_storage import OwnedStorage
from jobq_core.storage import QueueStorage
from jobq_worker.around.around import Around
from jobq_worker.around.lifespan import LifespanFunction
from jobq_worker.around.middleware import MiddlewareFunction
from jobq_worker.around.providers import Scope
from jobq_worker.executors import EXECUTORS
from jobq_worker.health import WorkerState
from jobq_worker.options import WorkerOptions, check_options
from jobq_worker.outages import Outages
from jobq_worker.running.handlers import Handlers
from jobq_worker.running.slots import Slots
from jobq_worker.settling.exchanges import Exchanges

F = TypeVar("F", bound=Callable[..., Any])
L = TypeVar("L", bound=LifespanFunction)
M = TypeVar("M", bound=MiddlewareFunction)


class WorkerSetup(Lifecycle, EventSource):
    """The part of `JobQueueWorker` that takes its options, its handlers, and what is around them."""

    _renamed: ClassVar[Mapping[str, str]] = {}
    """Words for fields of `WorkerOptions` that differ here."""

    def __init__(self, storage: QueueStorage | str | None, options: WorkerOptions) -> None:
        super().__init__()
        self._options = options
        self._owned = OwnedStorage(storage, deferred=True)
        self._handlers = Handlers(options.jobs)
        self._around = Around()
        self._slots = Slots(options.concurrency, options.max_hung)
        self._outages = Outages(f"worker {options.name}")
        self._state: WorkerState = "new"
        self.exchanges = Exchanges()
        """Counts of its exchanges with the storage, over all its starts, while `exchanges.enabled`."""

    def configure(self, storage: QueueStorage | str | None = None, **keywords: Any) -> None:
        """Replace the storage, if one is given, and options, before the start. The keywords are those of the class.

        Raises ConfigurationError for an option that does not exist or cannot work, and while the worker runs.
        """
        self._check_not_started("an option")
        if "jobs" in keywords:
            raise ConfigurationError("the jobs of a worker are given when it is made")
        given = check_options(type(self).__name__, keywords, renamed=self._renamed)
        fields = {own: getattr(given, own) for word in keywords for own in (self._field_of(word),)}
        options = attrs.evolve(self._options, **fields)
        if storage is not None:
            self._owned = OwnedStorage(storage)
        self._options = options
        self._slots = Slots(options.concurrency, options.max_hung)
        self._outages = Outages(f"worker {options.name}")

    def _field_of(self, word: str) -> str:
        return next((field for field, renamed in self._renamed.items() if renamed == word), word)

    @property
    def around(self) -> Around:
        """What it puts around its handlers."""
        return self._around

    @property
    def handlers(self) -> Handlers:
        """Its jobs, with the handlers that were supplied."""
        return self._handlers

    def handles(self, job_type: type[Job[Any]]) -> Callable[[F], F]:
        """Decorate a function as the handler of a Job class that has no `execute`.

        The function takes (job) or (job, context), and may be a coroutine function. Raises ConfigurationError for a
        kind that has a handler, and while the worker runs.
        """

        def supply(function: F) -> F:
            self._check_not_started("a handler")
            self._handlers.supply(job_type, function)
            return function

        return supply

    def middleware(self, function: M) -> M:
        """Decorate a function that runs around each handler: a generator function, sync or async, that yields once, or
        a function that returns a context manager.

        It is called with the job and its `JobContext`, for every run, in the order of the decorators: the first is the
        outermost. What it does before the `yield` comes before the handler. The `yield` returns the result of the
        handler, or raises its exception. The middleware may assign `context.result`, raise another exception, or
        return after catching one, so that the job completes. An exception of its own ends the run as one of the handler
        does. A sync middleware runs where the handler does, in the handler's thread or on the event loop; an async one
        always runs on the event loop. Raises ConfigurationError for anything else, and while the worker runs.
        """
        self._check_not_started("a middleware")
        self._around.add_middleware(function)
        return function

    def lifespan(self, function: L) -> L:
        """Decorate a function without parameters that is open while the worker runs: a generator function, sync or
        async, that yields once, or a function that returns a context manager.

        It is opened on the event loop by `start`, before any job is claimed, and closed by `stop`, after the last run
        has ended, in the reverse order of the decorators. If it fails to open, `start` raises its exception; if it
        fails to close, `stop` and `run` do, after the worker has stopped. It has 30 seconds to close. Raises
        ConfigurationError for anything else, and while the worker runs.
        """
        self._check_not_started("a lifespan")
        self._around.add_lifespan(function)
        return function

    @overload
    def provides(self, function: F, /) -> F: ...
    @overload
    def provides(self, function: None = None, /, *, scope: Scope = "worker") -> Callable[[F], F]: ...
    def provides(self, function: Any = None, /, *, scope: Scope = "worker") -> Any:
        """Decorate a function that provides a resource: `@worker.provides`, or `@worker.provides(scope="run")`.

        The return annotation says what it provides: `Pool` of `-> Pool`, of `-> Iterator[Pool]` for a generator, and of
        `-> AsyncIterator[Pool]` for an async one. A handler whose keyword-only parameter is annotated with exactly this
        type gets the resource. The function may be sync or async, and may have parameters of types that other functions
        provide.

        scope: 'worker' (default) opens the resource on the event loop when the worker starts, if one of its jobs needs
            it, and closes it after the last run. 'run' opens and closes it around each handler that needs it, where the
            handler runs, and the function may take the JobContext.

        Raises ConfigurationError for a function that cannot be a provider, for a second one of its type, and while the
        worker runs.
        """

        def provide(function: Any) -> Any:
            self._check_not_started("a resource")
            self._around.add_provider(function, scope)
            return function

        return provide if function is None else provide(function)

    def check(self) -> None:
        """Raise ConfigurationError if jobs cannot run here, with one line for each problem; opens nothing."""
        problems = self._handlers.problems(EXECUTORS, self._around)
        if problems:
            raise ConfigurationError("\n".join(problems))

    def _check_not_started(self, what: str) -> None:
        if self._state not in ("new", "stopped"):
            raise ConfigurationError(f"{what} must be supplied before the worker starts")
