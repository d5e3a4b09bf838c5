"""Why a declared type cannot be stored. Asked when a job is declared, so that each reason names an argument."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, get_args, get_origin

import attrs
from msgspec import inspect as shapes

from jobq_core.json_types import GENERIC, form_of
from jobq_core.secret import Secret

RENAME: Final = "a name that begins with an underscore is private: rename it without the underscore"
_NO_KEYS: Final = (
    shapes.BoolType,
    shapes.CollectionType,
    shapes.DataclassType,
    shapes.DictType,
    shapes.NamedTupleType,
    shapes.NoneType,
    shapes.StructType,
    shapes.TupleType,
    shapes.TypedDictType,
)


def refusal(wanted: Any) -> str | None:
    """Return why a declared type cannot be stored, with the remedy, or None where it can be.

    Raises NameError for a name that is not defined yet.
    """
    try:
        described = shapes.type_info(wanted)
    except RecursionError:
        return "an alias that contains itself cannot be stored; declare a class, or Any"
    except TypeError as error:
        said = str(error)
        if "union" in said:
            return f"JSON cannot tell its members apart; declare one of them, or msgspec.Structs with tags ({said})"
        return said
    for node, where in _nodes(described):
        reason = _reason(node)
        if reason is not None:
            return f"{where}: {reason}" if where else reason
    return next((reason for inner in _inner(wanted) if (reason := refusal(inner)) is not None), None)


def private_fields(cls: type[Any]) -> list[str]:
    """Return the fields of an attrs class that its constructor takes and msgspec does not write."""
    if not attrs.has(cls):
        return []
    return [field.name for field in attrs.fields(cls) if field.init and field.name.startswith("_")]


def _reason(node: Any) -> str | None:
    if isinstance(node, shapes.CustomType):
        return _custom_reason(node.cls)
    if isinstance(node, shapes.DataclassType):
        for name in private_fields(node.cls):
            return f"the field {name!r} of {node.cls.__name__} is not stored; {RENAME}"
    elif isinstance(node, shapes.DictType) and isinstance(node.key_type, _NO_KEYS):
        return "keys of a dict are text or numbers in JSON; declare a list of pairs"
    return None


def _custom_reason(cls: Any) -> str | None:
    if cls in (object, Secret) or form_of(cls) is not None:
        return None
    name = getattr(cls, "__name__", repr(cls))
    if getattr(cls, "__module__", "") == "collections.abc":
        return f"{name} has no JSON form; declare a list, dict or set"
    return f"{name} has no JSON form; pass an id or a path to it, or register it with jobq_core.register_type"


def _nodes(described: shapes.Type) -> Iterator[tuple[Any, str]]:
    """Walk the description of a type; yield each part of it with the class and field that names it."""
    pending: list[tuple[Any, str]] = [(described, "")]
    seen: set[int] = set()
    while pending:
        node, where = pending.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node, where
        for name in node.__struct_fields__:
            part = getattr(node, name)
            for one in part if isinstance(part, tuple) else (part,):
                if isinstance(one, shapes.Type):
                    pending.append((one, where))
                elif isinstance(one, shapes.Field):
                    pending.append((one, f"{getattr(node, 'cls', dict).__name__}.{one.name}"))


def _inner(wanted: Any) -> Iterator[Any]:
    """Yield the types within generic classes of `json_types`, which msgspec describes without them."""
    for argument in get_args(wanted):
        if get_origin(wanted) in GENERIC:
            yield argument
        yield from _inner(argument)
