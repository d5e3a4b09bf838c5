"""How a handler process finds its handlers: by the names of the modules and functions that the worker has imported.

The names are those of objects in the worker. No name comes from a storage.
"""

from __future__ import annotations

import importlib
import sys
from operator import attrgetter
from typing import Any

from jobq_core.errors import ConfigurationError
from jobq_core.job import JobDefinition
from jobq_core.registry import Registry
from jobq_worker.executors.messages import FunctionReference, HandlerReference
from jobq_worker.running.handlers import with_handler


def reference_to(definition: JobDefinition) -> HandlerReference:
    """Return where a process finds the handler; raises ConfigurationError if an import would not find it."""
    module = definition.job_type.__module__
    found = Registry(sys.modules[module]).get(definition.kind) if module in sys.modules else None
    if found is None or found.job_type is not definition.job_type:
        raise ConfigurationError(
            f"job {definition.kind!r} runs in a process, which imports it from {module!r}: declare it at the top level "
            "of that module"
        )
    if found.handler is not None:
        return HandlerReference(definition.kind, module)
    return HandlerReference(
        definition.kind, module, reference_to_function(definition.handler, f"the handler of {definition.kind!r}")
    )


def reference_to_function(function: Any, what: str) -> FunctionReference:
    """Return where a process finds a function; raises ConfigurationError if an import would not find it."""
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    try:
        there: Any = attrgetter(name)(sys.modules[module])
    except (KeyError, AttributeError):
        there = None
    if there is not function:
        raise ConfigurationError(
            f"{what} runs in a process, which imports it: define {name!r} at the top level of its module {module!r}"
        )
    return FunctionReference(module, name)


def find(reference: FunctionReference) -> Any:
    """Import a function."""
    return attrgetter(reference.name)(_import(reference.module))


def load(reference: HandlerReference) -> JobDefinition:
    """Import the handler of a kind. Raises what the import raises, and LookupError if the module has no such job."""
    definition = Registry(_import(reference.module)).get(reference.kind)
    if definition is None:
        raise LookupError(f"module {reference.module!r}, imported in a process, declares no job {reference.kind!r}")
    if reference.supplied is None:
        return definition
    return with_handler(definition, find(reference.supplied))


def _import(name: str) -> Any:
    return importlib.import_module(name)  # noqa: TID251  (a module that the worker has imported)
