"""Jobs as values: `Job`, and the decorator `job` that makes them from functions and classes.

A job is a frozen attrs value whose fields are its arguments. What else is declared with it (queue, retries, …) is one
`JobDefinition` on the class, so that a value holds the arguments and nothing more.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Coroutine, Mapping
from typing import (
    Any,
    ClassVar,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
    dataclass_transform,
    overload,
)

import attrs
import msgspec

from jobq_core.checks import Seconds, check_bool, check_exceptions, is_number, to_seconds
from jobq_core.context import JobContext
from jobq_core.encoding import MAX_ARGUMENTS, MAX_RESULT, check_text, encode, encode_fields, make_decoder
from jobq_core.encoding import fingerprint as make_fingerprint
from jobq_core.errors import ConfigurationError, InvalidJobError
from jobq_core.reprs import short_repr
from jobq_core.retry import RetryPolicy

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
F_co = TypeVar("F_co", bound=Callable[..., Any], covariant=True)
J = TypeVar("J", bound="Job[Any]")

MIN_PRIORITY: Final = -9
MAX_PRIORITY: Final = 9


@attrs.frozen(kw_only=True, eq=False)
class JobDefinition:
    """What is declared of a kind of job, beside its arguments."""

    kind: str
    job_type: type[Job[Any]]
    result_type: Any
    queue: str | None = None
    priority: int = 0
    max_attempts: int = 10
    timeout: float | None = None
    retry: RetryPolicy = attrs.field(factory=RetryPolicy)
    executor: str | None = None
    fingerprint: bool = False
    errors: tuple[type[Exception], ...] = ()
    handler: Callable[..., Any] | None = None
    """Called with the job (and the context, where `wants_context`): the result, or a coroutine of it."""
    wants_context: bool = False
    is_async: bool = False
    # Made on first use: at declaration the types may name what the module defines further down.
    _argument_decoder: msgspec.json.Decoder[Any] | None = attrs.field(default=None, init=False, repr=False)
    _result_decoder: msgspec.json.Decoder[Any] | None = attrs.field(default=None, init=False, repr=False)

    def encode_arguments(self, job: Job[Any]) -> bytes:
        """Encode a job's arguments; raises InvalidJobError naming the one that cannot be kept or has the wrong type."""
        if self._result_decoder is None:
            # A result that nobody could read is a mistake in the declaration: say so before the job runs.
            self._make_result_decoder()
        data = encode_fields(job, self.kind, MAX_ARGUMENTS)
        self.decode_arguments(data)
        return data

    def decode_arguments(self, data: bytes | str) -> Job[Any]:
        """Make the job value again; raises InvalidJobError if the stored arguments no longer fit the declaration."""
        decoder = self._argument_decoder
        if decoder is None:
            decoder = _make_decoder(self.job_type, self.kind)
            object.__setattr__(self, "_argument_decoder", decoder)
        try:
            arguments: Job[Any] = decoder.decode(data)
            return arguments
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            said = str(error)
        # Raised here: an error of a decoder may have in it all that it was to decode.
        raise InvalidJobError(f"{self.kind}: the arguments do not fit: {said}")

    def encode_result(self, result: Any) -> bytes:
        """Encode a result; raises InvalidJobError if it is too large or no JSON."""
        if result is None:
            return b"null"  # most jobs have no other
        return encode(result, f"result of {self.kind}", MAX_RESULT)

    def decode_result(self, data: bytes | str) -> Any:
        """Decode a result into the type that the job declares."""
        decoder = self._result_decoder or self._make_result_decoder()
        try:
            return decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            said = str(error)
        raise InvalidJobError(f"the result of {self.kind} does not fit its declared type: {said}")

    def _make_result_decoder(self) -> msgspec.json.Decoder[Any]:
        decoder = _make_decoder(self.result_type, f"result of {self.kind}")
        object.__setattr__(self, "_result_decoder", decoder)
        return decoder

    def fingerprint_of(self, arguments: bytes) -> bytes | None:
        """Return the fingerprint to store, or None for kinds that did not ask for one."""
        return make_fingerprint(self.kind, arguments) if self.fingerprint else None


def _make_decoder(wanted: Any, what: str) -> msgspec.json.Decoder[Any]:
    try:
        return make_decoder(wanted)
    except (TypeError, NameError) as error:
        raise ConfigurationError(f"{what}: its types cannot be read from JSON: {error}") from error


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
class Job(Generic[R_co]):
    """Base of all jobs; `R` is the type of the result. Subclass it under the decorator `@job`.

    A subclass may have `execute(self)` or `execute(self, context)`, sync or async. Without one it is a bare contract,
    whose body a worker supplies with `@worker.handles(ThatJob)`.
    """

    definition: ClassVar[JobDefinition]

    def __init__(self, *_: Any, **__: Any) -> None:
        raise TypeError(f"{type(self).__qualname__} is not declared yet: decorate the class with @job")


class JobFunction(Generic[P, R_co, F_co]):
    """A function declared as a job: calling it makes the job value, `func` is the function itself."""

    def __init__(self, definition: JobDefinition, func: F_co) -> None:
        self.definition = definition
        self.func: F_co = func
        self.__doc__ = func.__doc__
        self.__name__ = definition.kind
        self.__module__ = func.__module__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Job[R_co]:
        return cast("Job[R_co]", self.definition.job_type(*args, **kwargs))

    def __repr__(self) -> str:
        return f"<job {self.definition.kind!r}>"


class JobDecorator(Protocol):
    """What `job(…)` returns.

    The overloads overlap, since a class is callable and a coroutine is a result like any other: checkers take the first
    that fits, and the narrower ones stand first.
    """

    @overload
    def __call__(self, target: type[J], /) -> type[J]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, target: Callable[Concatenate[JobContext, P], Coroutine[Any, Any, R]], /
    ) -> JobFunction[P, R, Callable[Concatenate[JobContext, P], Coroutine[Any, Any, R]]]: ...
    @overload
    def __call__(
        self, target: Callable[P, Coroutine[Any, Any, R]], /
    ) -> JobFunction[P, R, Callable[P, Coroutine[Any, Any, R]]]: ...
    @overload
    def __call__(
        self, target: Callable[Concatenate[JobContext, P], R], /
    ) -> JobFunction[P, R, Callable[Concatenate[JobContext, P], R]]: ...
    @overload
    def __call__(self, target: Callable[P, R], /) -> JobFunction[P, R, Callable[P, R]]: ...


def job(
    *,
    name: str | None = None,
    queue: str | None = None,
    priority: int = 0,
    max_attempts: int = 10,
    timeout: Seconds | None = None,
    retry: RetryPolicy | None = None,
    executor: str | None = None,
    fingerprint: bool = False,
    errors: tuple[type[Exception], ...] = (),
) -> JobDecorator:
    """Declare a function, or a subclass of Job, as a kind of job.

    name: the kind that is stored with each job (default: the function's or class's name); keep it when you rename.
    queue: where its jobs go unless `add` says otherwise (default: the client's queue).
    priority: -9 to 9, higher first (default 0).
    max_attempts: how many runs at most, 1 to 32767 (default 10).
    timeout: longest time of one run, in seconds or as a timedelta (default: no limit).
    retry: which exceptions run it again, and when (default: any, with exponential backoff and full jitter).
    executor: where it runs: 'async' or 'thread' (default: by whether it is a coroutine function).
    fingerprint: keep one, so that `client.output_for(job)` finds the newest result of equal arguments (default: no).
    errors: exception types that `wait_for` raises as themselves, where they are not a builtin or a JobError.

    Raises ConfigurationError for an option out of range and for a signature that cannot be a job's.
    """

    def declare(target: Any) -> Any:
        options = {
            "kind": check_name(name if name is not None else target.__name__, "the name of a job"),
            "queue": queue if queue is None else check_name(queue, "queue"),
            "priority": check_priority(priority),
            "max_attempts": check_max_attempts(max_attempts),
            "timeout": check_timeout(timeout),
            "retry": RetryPolicy() if retry is None else _check_policy(retry),
            "executor": executor if executor is None else check_name(executor, "executor"),
            "fingerprint": check_bool(fingerprint, "fingerprint"),
            "errors": check_exceptions(errors, "errors"),
        }
        if inspect.isclass(target):
            return _declare_class(target, options)
        return _declare_function(target, options)

    return cast(JobDecorator, declare)


def _declare_class(target: type[Any], options: dict[str, Any]) -> type[Job[Any]]:
    if not issubclass(target, Job):
        raise ConfigurationError(f"{target.__qualname__} must be a subclass of Job to be declared with @job")
    declared: type[Job[Any]] = attrs.frozen(target, slots=False)
    execute = getattr(declared, "execute", None)
    declared.definition = JobDefinition(
        **options,
        job_type=declared,
        result_type=_class_result(declared),
        handler=execute,
        wants_context=execute is not None and len(inspect.signature(execute).parameters) > 1,
        is_async=inspect.iscoroutinefunction(execute),
    )
    return declared


def _class_result(declared: type[Any]) -> Any:
    for base in getattr(declared, "__orig_bases__", ()):
        if typing.get_origin(base) is Job:
            return typing.get_args(base)[0]
    return Any


def _declare_function(func: Callable[..., Any], options: dict[str, Any]) -> JobFunction[Any, Any, Any]:
    name = func.__qualname__
    hints = _hints(func)
    parameters = list(inspect.signature(func).parameters.values())
    wants_context = bool(parameters) and hints.get(parameters[0].name) is JobContext
    if wants_context:
        del parameters[0]
    fields: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ConfigurationError(f"job {name}: {parameter} cannot be stored by name; spell the arguments out")
        if parameter.name in ("definition", "self"):
            raise ConfigurationError(f"job {name}: an argument cannot be called {parameter.name!r}")
        default = attrs.NOTHING if parameter.default is parameter.empty else parameter.default
        if isinstance(default, (list, dict, set)):
            raise ConfigurationError(f"job {name}: the default of {parameter.name} is mutable; use None")
        fields[parameter.name] = attrs.field(
            default=default,
            type=hints.get(parameter.name, Any),
            alias=parameter.name,
            kw_only=parameter.kind is parameter.KEYWORD_ONLY,
        )
    job_type: type[Job[Any]] = attrs.make_class(options["kind"], fields, bases=(Job,), frozen=True, slots=False)
    job_type.__module__ = func.__module__
    names = tuple(fields)

    def handler(job: Job[Any], *context: JobContext) -> Any:
        return func(*context, **{name: getattr(job, name) for name in names})

    job_type.definition = JobDefinition(
        **options,
        job_type=job_type,
        result_type=hints.get("return", Any),
        handler=handler,
        wants_context=wants_context,
        is_async=inspect.iscoroutinefunction(func),
    )
    return JobFunction(job_type.definition, func)


def _hints(func: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(func, include_extras=True)
    except NameError as error:
        raise ConfigurationError(
            f"job {func.__qualname__}: {error}; its annotations must be importable when it is declared"
        ) from error


def definition_of(job: Any) -> JobDefinition:
    """Return the definition of a job value, a job class or a declared function; raises ConfigurationError for
    others."""
    definition = getattr(job, "definition", None)
    if not isinstance(definition, JobDefinition):
        raise ConfigurationError(f"{short_repr(job)} is no job: declare the function or class with @job")
    return definition


def _check_policy(policy: Any) -> RetryPolicy:
    if not isinstance(policy, RetryPolicy):
        raise ConfigurationError(
            f"retry must be a RetryPolicy, as in retry=RetryPolicy(backoff=Backoff(base=5)), not {short_repr(policy)}"
        )
    return policy


def check_name(name: Any, what: str) -> str:
    """Return a name (of a queue, kind, tag, run or key) of 1 to 255 characters; raises ConfigurationError otherwise.

    Text of a class of its own, such as a member of a StrEnum, becomes plain text, which every storage takes.
    """
    if not isinstance(name, str) or not 1 <= len(name) <= 255:
        raise ConfigurationError(f"{what} must be text of 1 to 255 characters, not {short_repr(name)}")
    try:
        return str.__str__(check_text(name, what))
    except InvalidJobError as error:
        raise ConfigurationError(str(error)) from None


def check_priority(priority: Any) -> int:
    """Return a priority from -9 to 9; raises ConfigurationError otherwise."""
    if type(priority) is not int or not MIN_PRIORITY <= priority <= MAX_PRIORITY:
        raise ConfigurationError(
            f"priority must be a whole number from {MIN_PRIORITY} to {MAX_PRIORITY} (higher is first), "
            f"not {short_repr(priority)}"
        )
    return priority


def check_max_attempts(max_attempts: Any) -> int:
    """Return a number of runs from 1 to 32767; raises ConfigurationError otherwise."""
    if type(max_attempts) is not int or not 1 <= max_attempts <= 32767:
        raise ConfigurationError(f"max_attempts must be a whole number from 1 to 32767, not {short_repr(max_attempts)}")
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
