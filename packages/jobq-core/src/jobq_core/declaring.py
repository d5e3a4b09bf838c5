"""The decorator `@job`: makes a JobDefinition of a function, or of a subclass of Job, and refuses what cannot work."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Final, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, cast, overload

import attrs
import msgspec

from jobq_core.batch_handlers import check_batch, check_batch_class, positional
from jobq_core.checks import Seconds, check_bool, check_exceptions, is_one_of
from jobq_core.codec import early_codec
from jobq_core.context import JobContext
from jobq_core.errors import ConfigurationError
from jobq_core.follow_ups import OF_FAILURE, OF_SUCCESS, check_follow_up
from jobq_core.job import Job, JobDefinition, JobFunction, check_max_attempts, check_name, check_priority, check_timeout
from jobq_core.reprs import short_repr
from jobq_core.resources import Provided, resources_of
from jobq_core.retry import RetryPolicy
from jobq_core.signatures import (
    check_runnable,
    is_context,
    mentions_context,
    read_hints,
    returns_coroutine,
    warn_of_untyped,
)

P = ParamSpec("P")
R = TypeVar("R")
J = TypeVar("J", bound="Job[Any]")

EXECUTORS: Final = ("async", "thread", "process")
"""Where a worker can run handlers."""


FollowingJob: TypeAlias = "JobFunction[Any, Any, Any] | type[Job[Any]] | Job[Any]"
"""A kind of job, or a job."""


class JobDecorator(Protocol):
    """The type of `job(…)`.

    Its overloads overlap, for a class is callable, and a coroutine is a result: type checkers take the first that
    fits, so the narrower ones come first.
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


@overload
def job(target: type[J], /) -> type[J]: ...  # type: ignore[overload-overlap]
@overload
def job(  # type: ignore[overload-overlap]
    target: Callable[Concatenate[JobContext, P], Coroutine[Any, Any, R]], /
) -> JobFunction[P, R, Callable[Concatenate[JobContext, P], Coroutine[Any, Any, R]]]: ...
@overload
def job(target: Callable[P, Coroutine[Any, Any, R]], /) -> JobFunction[P, R, Callable[P, Coroutine[Any, Any, R]]]: ...
@overload
def job(
    target: Callable[Concatenate[JobContext, P], R], /
) -> JobFunction[P, R, Callable[Concatenate[JobContext, P], R]]: ...
@overload
def job(target: Callable[P, R], /) -> JobFunction[P, R, Callable[P, R]]: ...
@overload
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
    result: bool = True,
    version: str | None = None,
    unknown_arguments: Literal["refuse", "ignore"] = "refuse",
    errors: tuple[type[Exception], ...] = (),
    batch: int | None = None,
    wait: Seconds | None = None,
    on_success: FollowingJob | None = None,
    on_failure: FollowingJob | None = None,
) -> JobDecorator: ...
def job(
    target: Any = None,
    /,
    *,
    name: str | None = None,
    queue: str | None = None,
    priority: int = 0,
    max_attempts: int = 10,
    timeout: Seconds | None = None,
    retry: RetryPolicy | None = None,
    executor: str | None = None,
    fingerprint: bool = False,
    result: bool = True,
    version: str | None = None,
    unknown_arguments: Literal["refuse", "ignore"] = "refuse",
    errors: tuple[type[Exception], ...] = (),
    batch: int | None = None,
    wait: Seconds | None = None,
    on_success: FollowingJob | None = None,
    on_failure: FollowingJob | None = None,
) -> Any:
    """Declare a function, or a subclass of Job, as a kind of job: `@job`, or `@job(queue="mail")` with options.

    name: the kind stored with each job (default: the name of the function or class). Keep it when you rename those.
    queue: queue of its jobs, unless `add` names another (default: the client's queue).
    priority: -100 to 100, higher first (default 0).
    max_attempts: highest number of runs, 1 to 32767 (default 10).
    timeout: longest time of one run, in seconds or as a timedelta (default: no limit).
    retry: which exceptions run it again, and when (default: any, with exponential backoff and full jitter).
    executor: 'async', 'thread' or 'process' (default: 'async' for coroutine functions, 'thread' for others). A process
        runs either kind of function, declared at the top level of a module, and can be killed.
    fingerprint: store a fingerprint, so that `client.output_for(job)` finds the newest result of equal arguments
        (default: no).
    result: store what the handler returns (default). With False, `wait_for` returns None.
    version: a text that distinguishes this declaration from earlier ones with the same arguments (default: none).
        Workers try the jobs that an earlier version refused again.
    unknown_arguments: what a worker does with a job that has an argument, or a field within one, that this declaration
        does not have. 'refuse' (default) leaves the job BLOCKED for a worker whose declaration accepts it; 'ignore'
        runs it without the value.
    errors: exception types that `wait_for` raises as themselves, beside builtin ones and JobErrors (default: none).
    batch: for a class only: run up to this many of its jobs, 1 to 1000, in one call of `execute`, a class method that
        takes a list of jobs (default: one job).
    wait: how long the first job of a batch waits for others, in seconds or as a timedelta, at most 60 (default 0.2).
    on_success: a kind of job, or a job, that is added when a job of this kind completes (default: none). A kind takes
        its arguments by their names: `job_id`, `kind`, `result`, and the arguments of the job.
    on_failure: the same when a job of this kind becomes FAILED, with `error`, an ErrorRecord, instead of `result`. What
        it needs is stored when the job is added.

    Raises ConfigurationError for an option out of range, for a signature that cannot be a job's, and for a type that
    cannot be stored. A type that the module defines further down is checked when a worker starts or a job is added.
    Warns with UntypedArgumentWarning of parameters without a type.
    """
    size, batch_wait = check_batch(batch, wait, executor)
    options = {
        "batch": size,
        "batch_wait": batch_wait,
        "queue": queue if queue is None else check_name(queue, "queue"),
        "priority": check_priority(priority),
        "max_attempts": check_max_attempts(max_attempts),
        "timeout": check_timeout(timeout),
        "retry": RetryPolicy() if retry is None else _check_policy(retry),
        "executor": _check_executor(executor),
        "fingerprint": check_bool(fingerprint, "fingerprint"),
        "keeps_result": check_bool(result, "result"),
        "version": version if version is None else check_name(version, "version"),
        "ignores_unknown_arguments": _check_unknown(unknown_arguments) == "ignore",
        "errors": check_exceptions(errors, "errors"),
        "on_success": on_success,
        "on_failure": on_failure,
    }

    def declare(target: Any) -> Any:
        kind = check_name(_name(target) if name is None else name, "the name of a job")
        if inspect.isclass(target):
            return _declare_class(target, kind, options)
        return _declare_function(target, kind, options)

    return cast(JobDecorator, declare) if target is None else declare(target)


def _name(target: Any) -> str:
    found: Any = getattr(target, "__name__", None)
    if isinstance(target, JobFunction) or not callable(target):
        raise ConfigurationError(f"@job declares a function or a subclass of Job, not {short_repr(target)}")
    if found is None:
        raise ConfigurationError(f"{short_repr(target)} has no name of its own: give it one, as in @job(name='resize')")
    return str(found)


def _declare_class(target: type[Any], kind: str, options: dict[str, Any]) -> type[Job[Any]]:
    if not issubclass(target, Job):
        raise ConfigurationError(f"{target.__name__} must be a subclass of Job to be declared with @job")
    _check_fields(target, kind)
    declared: type[Job[Any]] = attrs.frozen(target, slots=False)
    execute = getattr(declared, "execute", None)
    if execute is not None:
        check_runnable(execute, kind)
    if options["batch"] is not None:
        check_batch_class(declared, kind)
    result_type = _class_result(declared)
    options = _with_follow_ups(options, kind, [field.name for field in vars(declared)["__attrs_attrs__"]])
    declared.definition = JobDefinition(
        **options,
        kind=kind,
        job_type=declared,
        result_type=result_type,
        codec=early_codec(kind, declared, result_type, ignores_unknown=options["ignores_unknown_arguments"]),
        handler=execute,
        wants_context=execute is not None and _wants_context(execute, kind, options["batch"]),
        resources={} if execute is None else _resources_of_method(execute),
        is_async=execute is not None and inspect.iscoroutinefunction(execute),
    )
    return declared


def _check_fields(target: type[Any], kind: str) -> None:
    """Refuse fields that attrs would not see, or would define a second time."""
    for cls in target.__mro__[: target.__mro__.index(Job)]:
        made = vars(cls).keys() & {"__attrs_attrs__", "__dataclass_fields__"}
        if made and cls is target:
            raise ConfigurationError(
                f"job {kind}: @job makes the class a frozen attrs class: remove its other decorator"
            )
        fields = [name for name, hint in vars(cls).get("__annotations__", {}).items() if "ClassVar" not in str(hint)]
        if fields and not made and cls is not target:
            raise ConfigurationError(
                f"job {kind}: argument {fields[0]!r} of its base {cls.__name__} would be lost: decorate the base "
                "with @attrs.frozen(slots=False)"
            )


def _class_result(declared: type[Any]) -> Any:
    for base in getattr(declared, "__orig_bases__", ()):
        if typing.get_origin(base) is Job:
            return typing.get_args(base)[0]
    return Any


def _resources_of_method(execute: Callable[..., Any]) -> dict[str, Any]:
    return resources_of(list(inspect.signature(execute).parameters.values()), read_hints(execute), arguments=False)


def _wants_context(execute: Callable[..., Any], kind: str, batch: int | None) -> bool:
    if batch is not None:
        return len(positional(execute)) == 2
    hints = read_hints(execute)
    resources = _resources_of_method(execute)
    _, *parameters = [each for each in inspect.signature(execute).parameters.values() if each.name not in resources]
    for number, parameter in enumerate(parameters):
        given = parameter.annotation is not parameter.empty
        if number or parameter.default is not parameter.empty or (given and not is_context(hints[parameter.name])):
            raise ConfigurationError(
                f"job {kind}: execute takes self and a JobContext; make {parameter.name!r} a field of the class"
            )
    return bool(parameters)


def _declare_function(func: Callable[..., Any], kind: str, options: dict[str, Any]) -> JobFunction[Any, Any, Any]:
    if options["batch"] is not None:
        raise ConfigurationError(
            f"job {kind}: batch=… is for a class, whose fields are the arguments of one job, and whose `execute` takes "
            "a list of jobs"
        )
    check_runnable(func, kind)
    try:
        parameters = list(inspect.signature(func).parameters.values())
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"job {kind}: {error}") from error
    hints = read_hints(func)
    first = parameters[0] if parameters else None
    wants_context = first is not None and is_context(hints.get(first.name)) and first.kind is not first.KEYWORD_ONLY
    resources = resources_of(parameters, hints)
    fields = {
        parameter.name: _field(parameter, hints, kind)
        for parameter in parameters[wants_context:]
        if parameter.name not in resources
    }
    job_type: type[Job[Any]] = attrs.make_class(kind, fields, bases=(Job,), frozen=True, slots=False)
    job_type.__module__ = getattr(func, "__module__", None) or __name__
    coroutine_function = inspect.iscoroutinefunction(func)
    coroutine = coroutine_function or (options["executor"] != "thread" and returns_coroutine(func))

    def handler(job: Job[Any], *context: JobContext) -> Any:
        return func(*context, **vars(job))  # the class has no slots, so these are the arguments and nothing else

    def handler_with_resources(job: Job[Any], *context: JobContext, **supplied: Any) -> Any:
        return func(*context, **vars(job), **supplied)

    called = handler_with_resources if resources else handler

    async def wrapped(job: Job[Any], *context: JobContext, **supplied: Any) -> Any:
        returned = called(job, *context, **supplied)
        return await returned if inspect.isawaitable(returned) else returned

    result_type = hints.get("return", Any)
    options = _with_follow_ups(options, kind, list(fields))
    job_type.definition = JobDefinition(
        **options,
        kind=kind,
        job_type=job_type,
        result_type=result_type,
        codec=early_codec(kind, job_type, result_type, ignores_unknown=options["ignores_unknown_arguments"]),
        handler=wrapped if coroutine and not coroutine_function else called,
        resources=resources,
        wants_context=wants_context,
        is_async=coroutine,
    )
    warn_of_untyped([name for name in fields if name not in hints], kind, func)
    return JobFunction(job_type.definition, func)


def _with_follow_ups(options: dict[str, Any], kind: str, arguments: list[str]) -> dict[str, Any]:
    """Return the options with the follow-ups of a kind with these arguments."""
    success, failure = options["on_success"], options["on_failure"]
    if success is not None:
        success = check_follow_up(success, "on_success", kind, OF_SUCCESS, arguments)
    if failure is not None:
        failure = msgspec.json.encode(check_follow_up(failure, "on_failure", kind, OF_FAILURE, arguments))
    return {**options, "on_success": success, "on_failure": failure}


def _field(parameter: inspect.Parameter, hints: dict[str, Any], kind: str) -> Any:
    name = parameter.name
    if isinstance(parameter.default, Provided):
        raise ConfigurationError(f"job {kind}: {name!r} has the default provided(): make it keyword-only, behind a `*`")
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
        raise ConfigurationError(f"job {kind}: {parameter} cannot be stored by name; spell the arguments out")
    if name in ("definition", "self"):
        raise ConfigurationError(f"job {kind}: an argument cannot be called {name!r}")
    if mentions_context(hints.get(name)) or (name == "context" and name not in hints):
        raise ConfigurationError(
            f"job {kind}: argument {name!r}: the context is the first parameter, annotated JobContext and nothing else"
        )
    default = attrs.NOTHING if parameter.default is parameter.empty else parameter.default
    return attrs.field(
        default=default, type=hints.get(name, Any), alias=name, kw_only=parameter.kind is parameter.KEYWORD_ONLY
    )


def _check_policy(policy: Any) -> RetryPolicy:
    if not isinstance(policy, RetryPolicy):
        raise ConfigurationError(
            f"retry must be a RetryPolicy, as in retry=RetryPolicy(backoff=Backoff(base=5)), not {short_repr(policy)}"
        )
    return policy


def _check_executor(executor: Any) -> str | None:
    if executor == "interpreter":
        raise ConfigurationError(
            "executor='interpreter' is not supported: msgspec and uuid-utils, which jobq needs, cannot be imported in "
            "a subinterpreter; executor='process' uses all cores too"
        )
    if executor is not None and not is_one_of(executor, EXECUTORS):
        raise ConfigurationError(f"executor must be 'async', 'thread' or 'process', not {short_repr(executor)}")
    return None if executor is None else str(executor)


def _check_unknown(choice: Any) -> str:
    if not is_one_of(choice, ("refuse", "ignore")):
        raise ConfigurationError(f"unknown_arguments must be 'refuse' or 'ignore', not {short_repr(choice)}")
    return str(choice)
