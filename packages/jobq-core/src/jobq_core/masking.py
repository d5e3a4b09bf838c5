"""Keeps secrets out of what is shown of stored jobs.

A job is stored with the names of its arguments that hold a `Secret`, in its `meta` beside its headers: what shows the
job later need not know its declaration. Names that secrets usually have are masked as well, for jobs that other
programs add.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any, Final

import msgspec
from msgspec import inspect as shapes

from jobq_core.secret import Secret

MASK: Final = "***"
SECRETS: Final = "jobq:secrets"
"""The key of `meta` for the names. Headers cannot have it: their values are texts."""
USUAL_NAMES: Final = re.compile(
    r"(.*[_.-])?(pass(word|wd|phrase)|secret|token|api[_-]?key|authorization|credentials?|private[_-]?key|cookies?)",
    re.IGNORECASE,
)
"""Names of arguments and headers whose values are not shown: password, db_password, access-token."""


def holds_secret(hint: Any) -> bool:
    """Whether values of a type hold a Secret, at any depth."""
    return _holds(shapes.type_info(hint), ())


def _holds(node: Any, above: tuple[Any, ...]) -> bool:
    cls = getattr(node, "cls", None)
    if isinstance(node, shapes.CustomType) and getattr(cls, "__origin__", cls) is Secret:
        return True
    if cls is not None:
        if cls in above:
            return False
        above = (*above, cls)
    return any(_holds(part, above) for part in _parts(node))


def _parts(node: Any) -> list[Any]:
    """Return the types and fields that a type is made of."""
    found: list[Any] = []
    for name in node.__struct_fields__:
        value = getattr(node, name)
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, (shapes.Type, shapes.Field)):
                found.append(one)
    return found


def mark_secrets(meta: bytes | None, names: Sequence[str]) -> bytes:
    """Return the `meta` of a job with the names of its arguments that hold a Secret."""
    headers = {} if meta is None else msgspec.json.decode(meta, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({**headers, SECRETS: list(names)})


def marked_secrets(meta: bytes | None) -> frozenset[str]:
    """Return the names that `mark_secrets` stored; none for a `meta` of another form."""
    if meta is None or SECRETS.encode() not in meta:
        return frozenset()
    try:
        return frozenset(msgspec.json.decode(meta, type=dict[str, Any]).get(SECRETS) or ())
    except (msgspec.DecodeError, UnicodeError, TypeError):
        return frozenset()


def mask(data: bytes, names: Collection[str] = (), *, usual: bool = True) -> bytes:
    """Return a JSON object with a mask for the values of these names; all others keep each digit.

    usual: whether the values of USUAL_NAMES are masked too (default True).
    """
    try:
        fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError):
        return data
    except RecursionError:  # no name in it can be found
        return msgspec.json.encode(MASK)
    hidden = {name for name in fields if name in names or (usual and USUAL_NAMES.fullmatch(name))}
    if not hidden:
        return data
    masked = msgspec.Raw(msgspec.json.encode(MASK))
    return msgspec.json.encode({name: masked if name in hidden else value for name, value in fields.items()})
