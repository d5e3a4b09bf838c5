"""Opens resources: those of the worker once, those of a run around its handler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import Any

import attrs

from jobq_core.context import JobContext
from jobq_core.errors import ConfigurationError
from jobq_core.job import Job, JobDefinition
from jobq_worker.around.handler_portal import HandlerPortal
from jobq_worker.around.middleware import Call
from jobq_worker.around.providers import Provider, Providers


@attrs.frozen
class Called:
    """What to call with each job of a kind, and whether it takes the context too."""

    function: Call
    wants_context: bool


async def open_resource(provider: Provider, arguments: Mapping[str, Any], stack: AsyncExitStack) -> Any:
    """Return a resource that is closed with the stack."""
    made = provider.function(**arguments)
    if provider.is_manager:
        return await stack.enter_async_context(made) if provider.is_async else stack.enter_context(made)
    return await made if provider.is_async else made


def open_in_thread(provider: Provider, arguments: Mapping[str, Any], stack: ExitStack, portal: HandlerPortal) -> Any:
    """Return a resource that is closed with the stack; an async provider runs on the event loop."""
    if provider.is_manager:
        made = provider.function(**arguments)
        return stack.enter_context(portal.wrap(made) if provider.is_async else made)
    return portal.call(provider.function, **arguments) if provider.is_async else provider.function(**arguments)


def with_resources(
    definition: JobDefinition, resources: Mapping[str, Any], providers: Providers, opened: Mapping[Provider, Any],
    portal: HandlerPortal,
) -> Called:  # fmt: skip
    """Return the call of a handler that passes its resources.

    resources: the types of its parameters. opened: the open resources of the worker.
    """
    handler = definition.handler
    assert handler is not None  # the worker has no kind without a handler
    found = providers.of(resources, f"job {definition.kind!r}")
    order = [provider for provider in providers.in_order(found.values()) if provider.scope == "run"]
    for provider in found.values():
        if provider.scope == "worker" and provider not in opened:
            raise ConfigurationError(
                f"job {definition.kind!r}: what provider {provider.name} provides is not open here"
            )
    if not order:
        values = {name: opened[provider] for name, provider in found.items()}
        if definition.wants_context:
            return Called(lambda job, context: handler(job, context, **values), True)
        return Called(lambda job: handler(job, **values), False)
    inner = handler if definition.wants_context else lambda job, _, **values: handler(job, **values)
    steps = [(provider, providers.needs_of(provider)) for provider in order]
    if definition.is_async:
        return Called(_per_run_async(inner, steps, found, opened), True)
    return Called(_per_run_sync(inner, steps, found, opened, portal), True)


Steps = Sequence[tuple[Provider, Mapping[str, Provider | None]]]
"""The providers of a run in order, each with those of its parameters; None for the JobContext."""


def _per_run_async(inner: Call, steps: Steps, found: Mapping[str, Provider], opened: Mapping[Provider, Any]) -> Call:
    async def call(job: Job[Any], context: JobContext) -> Any:
        failed: BaseException | None = None
        async with AsyncExitStack() as stack:
            values: dict[Any, Any] = {**opened, None: context}
            for provider, needs in steps:
                arguments = {name: values[needed] for name, needed in needs.items()}
                values[provider] = await open_resource(provider, arguments, stack)
            try:
                result = await inner(job, context, **{name: values[provider] for name, provider in found.items()})
            except BaseException as error:
                failed = error
                raise
        if failed is not None:
            raise failed  # a provider that catches it cannot make a failed run complete
        return result

    return call


def _per_run_sync(
    inner: Call, steps: Steps, found: Mapping[str, Provider], opened: Mapping[Provider, Any], portal: HandlerPortal
) -> Call:
    def call(job: Job[Any], context: JobContext) -> Any:
        failed: BaseException | None = None
        with ExitStack() as stack:
            values: dict[Any, Any] = {**opened, None: context}
            for provider, needs in steps:
                arguments = {name: values[needed] for name, needed in needs.items()}
                values[provider] = open_in_thread(provider, arguments, stack, portal)
            try:
                result = inner(job, context, **{name: values[provider] for name, provider in found.items()})
            except BaseException as error:
                failed = error
                raise
        if failed is not None:
            raise failed  # a provider that catches it cannot make a failed run complete
        return result

    return call
