"""What a declaration takes: the text that tells two declarations of a kind apart, and the names that neither has.

msgspec reads attrs classes, dataclasses and TypedDicts without a word about names that they do not have. A value that
the code which runs a job does not know would be lost: a payment of 5 USD would run as 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from functools import cached_property, partial
from typing import Any, Final, TypeAlias

import attrs
import msgspec
from msgspec import inspect as shapes

Finder: TypeAlias = Callable[[Any], str | None]
"""Returns the path to the first name in a plain JSON value that its type does not have, or None."""

_OBJECTS: Final = (shapes.StructType, shapes.DataclassType, shapes.TypedDictType)
_WITHOUT: Final = frozenset({"cls", "default", "default_factory", "name", "extra_json_schema", "extra"})
"""What the description of a type holds and makes no difference to the JSON that it takes."""


def declaration_of(hints: Sequence[tuple[str, Any, bool]], version: str | None, ignores_unknown: bool) -> str:
    """Return a text that is equal for declarations that take the same arguments: 24 hexadecimal digits.

    hints: name and type of each argument, and whether it must be given. version, ignores_unknown: options of `@job`.
    """
    import hashlib  # only workers need it

    arguments = sorted([name, required, _describe(shapes.type_info(hint), ())] for name, hint, required in hints)
    data = msgspec.json.encode([arguments, version, ignores_unknown])
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def _describe(node: Any, above: tuple[Any, ...]) -> Any:
    """Return a JSON value that is equal for types that take the same JSON. above: the classes around this part."""
    if isinstance(node, shapes.Metadata):
        return _describe(node.type, above)
    if isinstance(node, shapes.Field):
        return [node.encode_name, node.required, _describe(node.type, above)]
    if isinstance(node, shapes.UnionType):
        return ["union", *sorted((_describe(part, above) for part in node.types), key=msgspec.json.encode)]
    if isinstance(node, shapes.LiteralType):
        return ["literal", *sorted(map(repr, node.values))]
    cls = getattr(node, "cls", None)
    if isinstance(node, shapes.EnumType):
        return ["enum", *sorted(repr(member.value) for member in cls)]  # type: ignore[union-attr]
    if isinstance(node, shapes.CustomType):
        fields: dict[str, Any] = getattr(cls, "model_fields", {})
        model = [[name, field.is_required(), repr(field.annotation)] for name, field in fields.items()]
        return ["custom", f"{getattr(cls, '__module__', '')}.{getattr(cls, '__qualname__', repr(cls))}", *model]
    if cls is not None:
        if cls in above:
            return ["again", above[::-1].index(cls)]
        above = (*above, cls)
    parts = ((name, getattr(node, name)) for name in node.__struct_fields__ if name not in _WITHOUT)
    return [type(node).__name__, *([name, _part(value, above)] for name, value in parts if value not in (None, False))]


def _part(value: Any, above: tuple[Any, ...]) -> Any:
    if isinstance(value, tuple):
        return [_part(one, above) for one in value]
    if isinstance(value, (shapes.Type, shapes.Field)):
        return _describe(value, above)
    return repr(value.value) if isinstance(value, Enum) else repr(value)


class KnownNames:
    """The names that a declaration has. What checks them is made at the first check: only workers check.

    check: raises ValidationError for arguments, or fields within them, that are not declared.
    """

    def __init__(self, hints: Mapping[str, Any]) -> None:
        self._hints = hints
        self.check: Callable[[bytes | str], object] = self._first_check

    def _first_check(self, data: bytes | str) -> None:
        fields = [(name, msgspec.Raw, msgspec.UNSET) for name in self._hints]
        made = msgspec.defstruct("Arguments", fields, forbid_unknown_fields=True, gc=False)
        decode = msgspec.json.Decoder(made).decode
        found = ((name, _finder(shapes.type_info(hint), {})) for name, hint in self._hints.items())
        finders = {name: find for name, find in found if find is not None}
        self.check = partial(_check_within, decode, finders) if finders else decode
        self.check(data)


def _check_within(decode: Callable[[bytes | str], object], finders: Mapping[str, Finder], data: bytes | str) -> None:
    decode(data)
    plain = msgspec.json.decode(data)
    for name, find in finders.items():
        path = find(plain.get(name))
        if path is not None:
            raise msgspec.ValidationError(f"Object contains unknown field `{name}.{path}`")


def _finder(node: Any, made: dict[Any, Finder | None]) -> Finder | None:
    if isinstance(node, shapes.Metadata):
        return _finder(node.type, made)
    if isinstance(node, _OBJECTS):
        return _object_finder(node, made)
    if isinstance(node, (shapes.CollectionType, shapes.VarTupleType)):
        return _each(_finder(node.item_type, made))
    if isinstance(node, shapes.DictType):
        return _values(_finder(node.value_type, made))
    if isinstance(node, shapes.TupleType):
        return _in_order([_finder(part, made) for part in node.item_types])
    if isinstance(node, shapes.NamedTupleType):
        return _in_order([_finder(field.type, made) for field in node.fields])
    if isinstance(node, shapes.UnionType):
        # Of several objects, the tag says which one it is; without a tag at most one part of a union is an object.
        found = [one for part in node.types if (one := _finder(part, made)) is not None]
        return found[0] if len(found) == 1 else None
    return None


def _object_finder(node: Any, made: dict[Any, Finder | None]) -> Finder | None:
    if getattr(node, "array_like", False):
        return _in_order([_finder(field.type, made) for field in node.fields])
    inner: dict[str, Finder | None] = {}

    def find(value: Any) -> str | None:
        if not isinstance(value, dict):
            return None
        for name, part in value.items():
            if name not in inner:
                return str(name)
            within = inner[name]
            path = None if within is None else within(part)
            if path is not None:
                return f"{name}.{path}"
        return None

    if node.cls in made:
        return made[node.cls]
    made[node.cls] = find
    inner.update(dict.fromkeys(_cached_properties(node.cls)))
    inner.update({field.encode_name: _finder(field.type, made) for field in node.fields})
    if getattr(node, "tag_field", None):
        inner[node.tag_field] = None
    return find


def _cached_properties(cls: Any) -> Iterator[str]:
    """Return what the encoder writes of an instance of an attrs class beside its fields, once it was computed."""
    if attrs.has(cls):
        for base in cls.__mro__:
            yield from (name for name, value in vars(base).items() if isinstance(value, cached_property))
            yield from (name for name in vars(base).get("__slots__", ()) if not name.startswith("_"))


def _each(one: Finder | None) -> Finder | None:
    if one is None:
        return None

    def find(value: Any) -> str | None:
        parts = value if isinstance(value, list) else ()
        return next((path for part in parts if (path := one(part))), None)

    return find


def _values(one: Finder | None) -> Finder | None:
    if one is None:
        return None

    def find(value: Any) -> str | None:
        parts = value.items() if isinstance(value, dict) else ()
        return next((f"{name}.{path}" for name, part in parts if (path := one(part))), None)

    return find


def _in_order(finders: Sequence[Finder | None]) -> Finder | None:
    if not any(finders):
        return None

    def find(value: Any) -> str | None:
        pairs = zip(finders, value, strict=False) if isinstance(value, list) else ()
        return next((path for one, part in pairs if one is not None and (path := one(part))), None)

    return find
