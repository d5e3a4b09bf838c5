"""The jobs that one worker knows, by kind. A stored kind is looked up in the registry, and never imported."""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator
from typing import Any

from jobq_core.checks import check_list
from jobq_core.errors import ConfigurationError
from jobq_core.job import Job, JobDefinition, JobFunction, definition_of

Jobs = Iterable[Any] | types.ModuleType
"""Declared jobs (functions and classes), or a module whose declared jobs are taken."""


class Registry:
    """Definitions by kind. Raises ConfigurationError for two definitions of the same kind."""

    def __init__(self, jobs: Jobs = ()) -> None:
        self._definitions: dict[str, JobDefinition] = {}
        entries = [jobs] if isinstance(jobs, types.ModuleType) else check_list(jobs, "jobs", "jobs=[send, resize]")
        for entry in entries:
            for declared in declared_in(entry) if isinstance(entry, types.ModuleType) else (entry,):
                self.add(definition_of(declared))

    def add(self, definition: JobDefinition) -> None:
        """Add a definition; adding it again changes nothing. Raises ConfigurationError for a second definition of the
        kind, and for a type of its arguments or result that is not defined."""
        definition.codec()
        known = self._definitions.setdefault(definition.kind, definition)
        if known is not definition:
            raise ConfigurationError(
                f"two jobs are called {definition.kind!r}: {_where(known)} and {_where(definition)}; "
                "give one of them a name, as in @job(name=…)"
            )

    def get(self, kind: str) -> JobDefinition | None:
        """Return the definition of a kind, or None if this registry does not know it."""
        return self._definitions.get(kind)

    def __iter__(self) -> Iterator[JobDefinition]:
        return iter(self._definitions.values())

    def __len__(self) -> int:
        return len(self._definitions)


def declared_in(module: types.ModuleType) -> Iterator[Any]:
    """Yield the declared jobs that a module has, those included that it imports."""
    for value in vars(module).values():
        if isinstance(value, JobFunction) or (
            isinstance(value, type) and issubclass(value, Job) and "definition" in vars(value)
        ):
            yield value


def _where(definition: JobDefinition) -> str:
    return f"{definition.job_type.__module__}.{definition.job_type.__qualname__}"
