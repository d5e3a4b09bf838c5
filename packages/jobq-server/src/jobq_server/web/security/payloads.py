"""`Payloads`: what of a job's data is shown, and to whom.

Arguments, results, headers, progress, error messages and tracebacks may hold what not everyone should see. They are
hidden from the roles that the application names. What is declared as a `Secret` is shown to nobody, nor is what is
named as a secret usually is, in jobs whose declaration the application does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from jobq_core.encoding import decode_or_show
from jobq_core.errors import InvalidJobError, JobQueueError
from jobq_core.job import JobDefinition
from jobq_core.registry import Registry
from jobq_core.secret import Secret
from jobq_server.web.security.identity import Identity, Role, parse_role

MASK: Final = "***"
NAMES: Final = re.compile(
    r"pass(word|wd|phrase)|secret|token|api_?key|authorization|credential|private_?key|cookie", re.IGNORECASE
)
"""Names of arguments and headers whose values are not shown."""


class Payloads:
    """hidden: the roles that see no payloads. registry: the declared jobs."""

    def __init__(self, hidden: Iterable[Role | str], registry: Registry) -> None:
        self._hidden = frozenset(map(parse_role, hidden))
        self._registry = registry

    def hides(self, identity: Identity) -> bool:
        """Whether an identity sees no payloads."""
        return identity.role in self._hidden

    def arguments(self, kind: str, data: bytes) -> bytes:
        """Return arguments as JSON, with secrets masked, and all else as it is stored."""
        definition = self._registry.get(kind)
        named = set() if definition is None else _secret_arguments(definition, data)
        return _mask(data, named, by_name=definition is None)

    def headers(self, data: bytes) -> bytes:
        """Return headers as JSON, with secrets masked."""
        return _mask(data, set(), by_name=True)


def _secret_arguments(definition: JobDefinition, data: bytes) -> set[str]:
    """Return the names of the arguments that hold a Secret. Arguments that do not fit the declaration are all taken for
    secret if any could be."""
    try:
        job = definition.decode_arguments(data)
    except JobQueueError:
        names = decode_or_show(data)
        return set(names) if isinstance(names, dict) and "Secret" in definition.declaration else set()
    return {name for name, value in vars(job).items() if _holds_secret(value)}


def _holds_secret(value: Any) -> bool:
    found = False

    def look(item: Any) -> Any:
        nonlocal found
        found = found or isinstance(item, Secret)
        return None

    msgspec.to_builtins(value, enc_hook=look, str_keys=True)
    return found


def _mask(data: bytes, named: set[str], *, by_name: bool) -> bytes:
    """Return a JSON object with the values of these names masked; other values keep each digit."""
    try:
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, InvalidJobError):
        return data
    hidden = {name for name in fields if name in named or (by_name and NAMES.search(name))}
    if not hidden:
        return data
    mask = msgspec.Raw(b'"***"')
    return msgspec.json.encode({name: mask if name in hidden else value for name, value in fields.items()})


def pretty(data: bytes) -> str:
    """Return JSON as indented text, each number as it is stored; text that is not JSON as it is."""
    try:
        return msgspec.json.format(data, indent=2).decode("utf-8", "replace")
    except msgspec.DecodeError:
        return data.decode("utf-8", "replace")
