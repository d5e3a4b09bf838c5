"""`Payloads`: what of a job's data is shown, and to whom.

Arguments, results, headers, progress, error messages and tracebacks may hold what not everyone should see. They are
hidden from the roles that the application names. What is declared as a `Secret` is shown to nobody, nor is what is
named as a secret usually is, in jobs whose declaration the application does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from itertools import accumulate
from typing import Final

import msgspec

from jobq_core.encoding import MAX_DEPTH
from jobq_core.masking import marked_secrets, mask
from jobq_core.operating import without_payloads
from jobq_core.records import JobRecord
from jobq_core.registry import Registry
from jobq_core.storage import JobFilter
from jobq_server.web.security.identity import Identity, Role, parse_role

_STRING_OR_BRACKET: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|([][{}])', re.DOTALL)
"""The brackets of JSON, and its strings, which may hold brackets that count for nothing."""


class Payloads:
    """hidden: the roles that see no payloads. registry: the declared jobs."""

    def __init__(self, hidden: Iterable[Role | str], registry: Registry) -> None:
        self._hidden = frozenset(map(parse_role, hidden))
        self._registry = registry

    def hides(self, identity: Identity) -> bool:
        """Whether an identity sees no payloads."""
        return identity.role in self._hidden

    def filter(self, identity: Identity, wanted: JobFilter) -> JobFilter:
        """Return a filter as an identity sees it."""
        return without_payloads(wanted) if self.hides(identity) else wanted

    def arguments(self, job: JobRecord) -> bytes:
        """Return arguments as JSON, with secrets masked, and all else as it is stored."""
        definition = self._registry.get(job.kind)
        declared = () if definition is None else definition.secrets
        return mask(job.arguments_json, marked_secrets(job.meta_json).union(declared), usual=definition is None)


def pretty(data: bytes) -> str:
    """Return JSON as indented text, each number as it is stored. Text that is not JSON, or is nested more deeply than
    jobq stores it, stays as it is: the indents of 20,000 levels take 800 MB."""
    text = data
    if _depth(data) <= MAX_DEPTH:
        with suppress(msgspec.DecodeError):
            text = msgspec.json.format(data, indent=2)
    return text.decode("utf-8", "replace")


def _depth(data: bytes) -> int:
    """Return how deeply the arrays and objects of JSON are nested."""
    marks = (mark for mark in _STRING_OR_BRACKET.findall(data) if mark)
    return max(accumulate(1 if mark in b"[{" else -1 for mark in marks), default=0)
