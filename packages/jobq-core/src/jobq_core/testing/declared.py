"""The jobs that this process has declared, by kind: a test need not name them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

from jobq_core.errors import ConfigurationError
from jobq_core.job import Job, JobDefinition


def declared_kind(kind: str) -> JobDefinition | None:
    """Return the declaration of a kind; None if no module that was imported declares it.

    Raises ConfigurationError for a kind that is declared twice.
    """
    found = _declarations(kind)
    if len(found) > 1:
        gc.collect()  # a declaration inside a test function outlives the test until then
        found = _declarations(kind)
    if len(found) > 1:
        places = " and ".join(sorted({definition.job_type.__module__ for definition in found}))
        raise ConfigurationError(f"{len(found)} jobs are called {kind!r}, in {places}: name those to use in jobs=[…]")
    return found[0] if found else None


def _declarations(kind: str) -> list[JobDefinition]:
    return [definition for definition in _declared(Job) if definition.kind == kind]


def _declared(base: type[Job[Any]]) -> Iterator[JobDefinition]:
    for cls in base.__subclasses__():
        definition = vars(cls).get("definition")
        if isinstance(definition, JobDefinition) and definition.job_type is cls:
            yield definition
        yield from _declared(cls)
