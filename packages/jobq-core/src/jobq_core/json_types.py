"""JSON forms of the types that msgspec does not know.

msgspec writes and reads most types by itself: JSON's own, dates, enums, containers, and classes of fields. The forms in
this module add Secret, paths, addresses, deques, ordered dicts, counters and pydantic models; `register_type` adds any
other class.

pydantic, pathlib and ipaddress are not imported here: their classes are recognised by name.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final, TypeVar, get_args, get_origin

import msgspec
from msgspec import inspect as shapes

from jobq_core.errors import ConfigurationError
from jobq_core.reprs import short_repr
from jobq_core.secret import Secret

T = TypeVar("T")


GENERIC: Final = (Secret, deque, OrderedDict, Counter)
"""Classes with a form that hold values of types that are declared with them, as in `deque[int]`."""


class Form(msgspec.Struct, frozen=True):
    """How one class is stored: to a value that has a JSON form, and back from plain JSON to the declared type."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any, Any], Any]


def register_type(cls: type[T], *, encode: Callable[[T], Any], decode: Callable[[Any], T]) -> None:
    """Let arguments and results be of a class that has no JSON form, also within containers and other classes.

    encode: turns an instance into a value of any type that jobq stores.
    decode: turns the JSON of that value (dict, list, str, int, float, bool or None) into an instance again. It raises
        ValueError or TypeError for JSON that does not fit.

    Call it before the jobs that use the class are declared, in a module that client and worker import. Instances of
    subclasses are encoded too, and come back as the class itself. Raises ConfigurationError for a class that is
    registered already, or that jobq stores without this.
    """
    given: tuple[Any, ...] = (cls, encode, decode)  # of any type, where no type checker runs
    if not isinstance(given[0], type) or not all(map(callable, given)):
        raise ConfigurationError(
            "register_type takes a class and two functions, as in register_type(Money, encode=str, decode=Money), "
            f"not {short_repr(cls)}, {short_repr(encode)}, {short_repr(decode)}"
        )
    if cls in _registered:
        raise ConfigurationError(f"{cls.__qualname__} is already registered")
    if not isinstance(shapes.type_info(cls), shapes.CustomType) or cls in (object, Secret):
        raise ConfigurationError(f"jobq stores {cls.__qualname__} without register_type")
    _registered[cls] = Form(encode, lambda _, value: decode(value))


_registered: Final[dict[type[Any], Form]] = {}


def _decode_text(wanted: Any, value: Any) -> Any:
    if type(value) is not str:
        raise ValueError(f"Expected `str`, got `{type(value).__name__}`")
    return wanted(value)


def _decode_deque(wanted: Any, value: Any) -> Any:
    return (get_origin(wanted) or wanted)(convert(value, list[get_args(wanted) or (Any,)]))  # type: ignore[misc]


def _decode_dict(wanted: Any, value: Any) -> Any:
    return (get_origin(wanted) or wanted)(convert(value, dict[get_args(wanted) or (Any, Any)]))  # type: ignore[misc]


def _decode_counter(wanted: Any, value: Any) -> Any:
    return (get_origin(wanted) or wanted)(convert(value, dict[(*(get_args(wanted) or (Any,)), int)]))  # type: ignore[misc]


def _encode_model(model: Any) -> Any:
    plain = model.model_dump(mode="json", by_alias=True, round_trip=True)
    if _decode_model(type(model), plain) != model:
        raise ValueError("it does not come back from its JSON as it was (SecretStr, excluded or private fields)")
    return plain


def _decode_model(wanted: Any, value: Any) -> Any:
    return wanted.model_validate_json(msgspec.json.encode(value))


_TEXT: Final = Form(str, _decode_text)
_MODEL: Final = Form(_encode_model, _decode_model)
_KNOWN: Final = {
    ("pathlib", "PurePath"): _TEXT,
    ("ipaddress", "IPv4Address"): _TEXT,
    ("ipaddress", "IPv6Address"): _TEXT,
    ("ipaddress", "IPv4Network"): _TEXT,
    ("ipaddress", "IPv6Network"): _TEXT,
    ("ipaddress", "IPv4Interface"): _TEXT,
    ("ipaddress", "IPv6Interface"): _TEXT,
    ("zoneinfo", "ZoneInfo"): _TEXT,
    ("collections", "deque"): Form(list, _decode_deque),
    ("collections", "OrderedDict"): Form(dict, _decode_dict),
    ("collections", "Counter"): Form(dict, _decode_counter),
}
"""By the class's top-level module and name."""


def form_of(cls: Any) -> Form | None:
    """Return the form of a class, or None for a class that has none here."""
    for base in getattr(cls, "__mro__", ()):
        form = _registered.get(base) or _KNOWN.get((base.__module__.partition(".")[0], base.__name__))
        if form is not None:
            return form
    return _MODEL if hasattr(cls, "model_validate_json") and hasattr(cls, "model_dump") else None


def to_json(value: Any) -> Any:
    """Return the JSON form of a value that msgspec cannot write; raises TypeError where there is none."""
    if isinstance(value, Secret):
        return value.reveal()
    cls = type(value)
    form = form_of(cls)
    if form is None:
        raise TypeError(f"{cls.__qualname__} has no JSON form; jobq_core.register_type can give it one")
    try:
        return form.encode(value)
    except Exception as error:
        raise TypeError(f"{cls.__qualname__}: {error}") from error


def from_json(wanted: Any, value: Any) -> Any:
    """Make a value of a declared type that msgspec cannot read; raises ValueError for JSON that does not fit it."""
    cls = get_origin(wanted) or wanted
    if cls is Secret:
        return _secret(wanted, value)
    if wanted is object:
        return value  # declares as little as Any
    form = form_of(cls)
    if form is None:
        raise TypeError(f"{wanted!r} cannot be made from JSON")
    try:
        return form.decode(wanted, value)
    except Exception as error:  # noqa: BLE001  (a registered function may raise anything)
        said = str(error)
    # Raised here: the error it would follow from may hold all that it was to decode.
    raise ValueError(said)


def _secret(wanted: Any, value: Any) -> Secret[Any]:
    (inner,) = get_args(wanted) or (Any,)
    try:
        return Secret(convert(value, inner))
    except (TypeError, ValueError):
        pass
    # Raised here: the error it would follow from may show the value.
    raise ValueError(f"a Secret[{getattr(inner, '__name__', inner)}] cannot be made from the stored value")


def convert(value: Any, wanted: Any) -> Any:
    """Make a value of any declared type from plain JSON; raises msgspec.ValidationError for JSON that does not fit."""
    return msgspec.convert(value, wanted, str_keys=True, dec_hook=from_json)


def make_decoder(wanted: Any) -> msgspec.json.Decoder[Any]:
    """Return a decoder of JSON into a declared type."""
    return msgspec.json.Decoder(wanted, dec_hook=from_json)
