"""Jobs as values: `Job`, `JobFunction` and `JobDefinition`. The decorator that makes them is in `declaring`.

A job is a frozen attrs value whose fields are its arguments. The rest of its declaration (queue, retries, …) is one
`JobDefinition` on the class.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, ParamSpec, TypeVar, cast, dataclass_transform

import attrs

from jobq_core.checks import is_number, to_seconds
from jobq_core.codec import JobCodec, make_codec
from jobq_core.declarations import declaration_of
from jobq_core.encoding import MAX_ARGUMENTS, MAX_RESULT, check_text, encode, encode_fields
from jobq_core.encoding import fingerprint as make_fingerprint
from jobq_core.errors import ConfigurationError, InvalidJobError
from jobq_core.reprs import short_repr
from jobq_core.retry import RetryPolicy

if TYPE_CHECKING:
    from jobq_core.follow_ups import FollowUp

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
F_co = TypeVar("F_co", bound=Callable[..., Any], covariant=True)

MIN_PRIORITY: Final = -100
MAX_PRIORITY: Final = 100
MAX_ATTEMPTS: Final = 32_767
"""Highest number of runs of a job; the SQL of the storages has it too."""


@attrs.frozen(kw_only=True, eq=False)
class JobDefinition:
    """What `@job` declares of a kind of job.

    It has more than 12 attributes since each option of `@job` is one.
    """

    kind: str
    job_type: type[Job[Any]]
    result_type: Any
    """As annotated: text or a ForwardRef where the type was not defined yet."""
    queue: str | None = None
    priority: int = 0
    max_attempts: int = 10
    timeout: float | None = None
    """Longest time of one run, in seconds; None for no limit."""
    retry: RetryPolicy = attrs.field(factory=RetryPolicy)
    executor: str | None = None
    fingerprint: bool = False
    keeps_result: bool = True
    version: str | None = None
    ignores_unknown_arguments: bool = False
    errors: tuple[type[Exception], ...] = ()
    handler: Callable[..., Any] | None = None
    """Called with the job, with the context too where `wants_context`, and with `resources` by name: returns the
    result, or a coroutine of it."""
    wants_context: bool = False
    is_async: bool = False
    resources: Mapping[str, Any] = attrs.field(factory=dict)
    """The types of the parameters that the worker supplies, as annotated, by name; passed by keyword."""
    batch: int | None = None
    """Maximum number of jobs in one call of `handler`, which then takes a list of jobs and, where `wants_context`, a
    list of their contexts; None for a handler of one job."""
    batch_wait: float = 0.0
    """Longest time that the first job of a batch waits for others, in seconds."""
    on_success: FollowUp | None = None
    on_failure: bytes | None = None
    """A FollowUp as JSON, as it is stored with each job of the kind."""
    _codec: JobCodec | None = attrs.field(default=None, repr=False, alias="codec")

    def codec(self) -> JobCodec:
        """Return the decoders of arguments and result, made once; raises ConfigurationError, naming the argument, for
        a type that cannot be stored or is not defined."""
        codec = self._codec
        if codec is None:
            codec = make_codec(
                self.kind, self.job_type, self.result_type, ignores_unknown=self.ignores_unknown_arguments
            )
            object.__setattr__(self, "_codec", codec)
        return codec

    @property
    def declaration(self) -> str:
        """A text that is equal for declarations that take the same arguments: names, types, which of them must be
        given, and the `version`. Raises ConfigurationError for a type that is not defined."""
        self.codec()
        hints = typing.get_type_hints(self.job_type, include_extras=True)
        arguments: Any = vars(self.job_type)["__attrs_attrs__"]
        fields = [(field.name, hints[field.name], field.default is attrs.NOTHING) for field in arguments]
        return declaration_of(fields, self.version, self.ignores_unknown_arguments)

    def encode_arguments(self, job: Job[Any]) -> bytes:
        """Encode a job's arguments; raises InvalidJobError, naming the argument that cannot be stored or has another
        type than declared."""
        codec = self._codec or self.codec()
        data = encode_fields(job, self.kind, MAX_ARGUMENTS)
        codec.check_arguments(data)
        return data

    @property
    def secrets(self) -> tuple[str, ...]:
        """The arguments that hold a Secret."""
        return (self._codec or self.codec()).secrets

    def decode_arguments(self, data: bytes | str) -> Job[Any]:
        """Return the job value of stored arguments.

        Raises UnfitArgumentsError, naming the argument, where they do not fit the declaration: another type, a missing
        argument, or an undeclared one. Raises InvalidJobError for damaged JSON.
        """
        codec = self._codec or self.codec()
        job: Job[Any] = codec.decode_arguments(data)
        return job

    def encode_result(self, result: Any) -> bytes:
        """Encode a result; raises InvalidJobError where it is too large, has no JSON form or does not fit the declared
        type."""
        if not self.keeps_result:
            return b"null"
        codec = self._codec or self.codec()
        fitting = codec.fitting
        if result is None and (fitting is None or NoneType in fitting):
            return b"null"  # most jobs return nothing
        data = encode(result, f"result of {self.kind}", MAX_RESULT)
        if fitting is not None and type(result) not in fitting:
            codec.decode_result(data)
        return data

    def decode_result(self, data: bytes | str) -> Any:
        """Decode a result into the declared type; raises InvalidJobError where it does not fit. None for a kind that
        keeps no results."""
        if not self.keeps_result:
            return None
        return (self._codec or self.codec()).decode_result(data)

    def fingerprint_of(self, arguments: bytes) -> bytes | None:
        """Return the fingerprint to store, or None for a kind declared without one."""
        return make_fingerprint(self.kind, arguments) if self.fingerprint else None


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
class Job(Generic[R_co]):
    """Base class of jobs; `Job[str]` returns a `str`. Decorate each subclass with `@job`.

    A subclass may have `execute(self)` or `execute(self, context)`, sync or async. A subclass without `execute` is a
    bare contract: a worker supplies its handler with `@worker.handles(ThatJob)`.
    """

    definition: ClassVar[JobDefinition]

    def __init__(self, *_: Any, **__: Any) -> None:
        raise TypeError(f"{type(self).__name__} is not declared yet: decorate the class with @job")


class JobFunction(Generic[P, R_co, F_co]):
    """A function declared as a job. Calling it returns the job value; `func` is the function itself."""

    def __init__(self, definition: JobDefinition, func: F_co) -> None:
        self.definition = definition
        self.func: F_co = func
        self.__doc__ = func.__doc__
        self.__name__ = definition.kind
        self.__module__ = definition.job_type.__module__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Job[R_co]:
        try:
            return cast("Job[R_co]", self.definition.job_type(*args, **kwargs))
        except TypeError as error:
            for name in self.definition.resources.keys() & kwargs.keys():
                error.add_note(
                    f"{name!r} is supplied by the worker, since its type has no JSON form or its default is provided()"
                )
            raise

    def __repr__(self) -> str:
        return f"<job {self.definition.kind!r}>"


def definition_of(job: Any) -> JobDefinition:
    """Return the definition of a job value, a job class or a declared function; raises ConfigurationError for any
    other value."""
    definition = getattr(job, "definition", None)
    if not isinstance(definition, JobDefinition):
        raise ConfigurationError(f"{short_repr(job)} is not a job: declare the function or class with @job")
    cls = job if isinstance(job, type) else type(job)
    if cls is not definition.job_type and issubclass(cls, Job):
        raise ConfigurationError(
            f"{cls.__name__} is not a job of its own: decorate it with @job, as its base {definition.kind!r} is"
        )
    return definition


def check_name(name: Any, what: str) -> str:
    """Return a name (of a queue, kind, tag, run or key) of 1 to 255 characters; raises ConfigurationError otherwise.

    An instance of a subclass of str, such as a member of a StrEnum, becomes a plain str.
    """
    if not isinstance(name, str) or not 1 <= len(name) <= 255:
        raise ConfigurationError(f"{what} must be text of 1 to 255 characters, not {short_repr(name)}")
    try:
        return str.__str__(check_text(name, what))
    except InvalidJobError as error:
        raise ConfigurationError(str(error)) from None


def check_priority(priority: Any) -> int:
    """Return a priority from -100 to 100; raises ConfigurationError otherwise."""
    if type(priority) is not int or not MIN_PRIORITY <= priority <= MAX_PRIORITY:
        raise ConfigurationError(
            f"priority must be a whole number from {MIN_PRIORITY} to {MAX_PRIORITY} (higher is first), "
            f"not {short_repr(priority)}"
        )
    return priority


def check_max_attempts(max_attempts: Any) -> int:
    """Return a number of runs from 1 to 32767; raises ConfigurationError otherwise."""
    if type(max_attempts) is not int or not 1 <= max_attempts <= MAX_ATTEMPTS:
        raise ConfigurationError(
            f"max_attempts must be a whole number from 1 to {MAX_ATTEMPTS}, not {short_repr(max_attempts)}"
        )
    return max_attempts


def check_timeout(timeout: Any) -> float | None:
    """Return the seconds of a time limit (a number or a timedelta) above 0, or None for no limit; raises
    ConfigurationError otherwise."""
    if timeout is None:
        return None
    seconds = to_seconds(timeout)
    if not is_number(seconds) or not 0 < seconds < 10 * 365 * 86400:
        raise ConfigurationError(
            "timeout must be more than 0 seconds (and less than 10 years), or None for no limit, "
            f"not {short_repr(timeout)}"
        )
    return float(seconds)
