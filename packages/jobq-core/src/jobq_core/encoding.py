"""Encodes arguments, results and progress details as JSON, and decodes them.

Every value that enters a storage passes through this module, so all storages refuse the same values with the same
words, before anything is written: NaN and infinities (encoders write null for them), NUL characters (PostgreSQL's text
cannot hold them), lone surrogates (not UTF-8), integers beyond 64 bits (readers round them), nesting over 64 levels,
and JSON over a size limit.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from jobq_core.errors import InvalidJobError
from jobq_core.json_types import to_json
from jobq_core.reprs import short_repr
from jobq_core.secret import Secret
from jobq_core.type_checks import RENAME, private_fields

MAX_ARGUMENTS: Final = 256 * 1024
"""Bytes of a job's arguments as JSON."""
MAX_RESULT: Final = 1024 * 1024
"""Bytes of a result as JSON."""
MAX_MESSAGE: Final = 64 * 1024
"""Maximum size of a progress message, in bytes of UTF-8."""
MAX_DETAILS: Final = 64 * 1024
"""Bytes of a progress report's details as JSON."""
MAX_DEPTH: Final = 64
"""Levels of lists and objects within each other."""

_MASK: Final = "***"
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_INT_MIN: Final = -(2**63)
_INT_MAX: Final = 2**63 - 1


_encoder = msgspec.json.Encoder(enc_hook=to_json)
_canonical = msgspec.json.Encoder(enc_hook=to_json, order="deterministic")


def decode(data: bytes | str) -> Any:
    """Decode JSON into plain dicts, lists, strings, numbers, booleans and None.

    Raises InvalidJobError for invalid JSON, which only another program, or a damaged disk, brings into the storage.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        said = str(error)
    # Raised here: the decoder's error may hold all that it was to decode.
    raise InvalidJobError(f"the stored value is not valid JSON: {said}")


def decode_or_show(data: bytes | str) -> Any:
    """Decode JSON; return invalid JSON as text, so that one damaged value does not hide the others beside it."""
    try:
        return decode(data)
    except InvalidJobError:
        return data.decode("utf-8", "replace") if isinstance(data, bytes) else data


def encode(value: Any, what: str, limit: int) -> bytes:
    """Encode a value as JSON of at most `limit` bytes; raises InvalidJobError naming `what` and the place in it."""
    return _encode(value, (value,), what, limit)


def encode_fields(value: Any, what: str, limit: int) -> bytes:
    """Encode, as `encode` does, the fields of an instance of an attrs class, such as a job, without its other
    attributes, such as cached properties."""
    fields = vars(value).values()
    if len(fields) == len(value.__attrs_attrs__):
        return _encode(value, fields, what, limit, 1)
    names = [field.name for field in value.__attrs_attrs__ if not field.name.startswith("_")]
    return encode({name: getattr(value, name) for name in names if hasattr(value, name)}, what, limit)


def _encode(value: Any, content: Iterable[Any], what: str, limit: int, depth: int = 0) -> bytes:
    try:
        data = _encoder.encode(value) if _is_plain(content, depth) else None
    except (TypeError, ValueError):
        data = None  # a lone surrogate, for one: _convert raises an error that names the place
    if data is None:
        data = _convert(value, what)
    if len(data) > limit:
        raise InvalidJobError(
            f"{what} takes {len(data)} bytes as JSON, {limit} are allowed; store it elsewhere and pass its key or path"
        )
    return data


def _is_plain(content: Iterable[Any], depth: int) -> bool:
    """Return whether these values are of JSON's own types, with nothing in them to refuse but a lone surrogate.

    The encoder then writes the same JSON as `_convert`, in half the time.
    """
    for value in content:
        kind = type(value)
        if kind is str:
            if "\0" in value:
                return False
        elif kind is int:
            if not _INT_MIN <= value <= _INT_MAX:
                return False
        elif kind is float:
            if not math.isfinite(value):
                return False
        elif kind is dict:
            if depth >= MAX_DEPTH or not _are_keys(value) or not _is_plain(value.values(), depth + 1):
                return False
        elif kind is list or kind is tuple:
            if depth >= MAX_DEPTH or not _is_plain(value, depth + 1):
                return False
        elif value is not None and kind is not bool:
            return False
    return True


def _are_keys(keys: Iterable[Any]) -> bool:
    return all(type(key) is str and "\0" not in key for key in keys)


def _convert(value: Any, what: str) -> bytes:
    """Encode a value of any type by way of its plain form; raises InvalidJobError naming the place in it."""
    secrets: list[Any] = []

    def reveal(item: Any) -> Any:
        if isinstance(item, Secret):
            secrets.append(item)
        form = to_json(item)
        _refuse_private(form, what)
        return form

    try:
        _refuse_private(value, what)
        plain = msgspec.to_builtins(value, enc_hook=reveal, str_keys=True)
        check(plain, what, masked=msgspec.to_builtins(value, enc_hook=_mask, str_keys=True) if secrets else plain)
        return _encoder.encode(plain)
    except InvalidJobError:
        raise
    except UnicodeEncodeError:
        said = "holds a lone surrogate, which UTF-8 cannot encode"
    except RecursionError:
        said = f"is nested more than {MAX_DEPTH} levels deep"
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidJobError(f"{what} cannot be written as JSON: {error}") from error
    # Raised here: the encoder's error holds all that it was to encode.
    raise InvalidJobError(f"{what} {said}")


def _refuse_private(value: Any, what: str) -> None:
    """Refuse values of attrs classes with private fields, which msgspec leaves out without an error."""
    kind: Any = type(value)
    if isinstance(value, (list, tuple, set, frozenset)):
        parts: Iterable[Any] = value
    elif isinstance(value, dict):
        parts = value.values()
    else:
        names, private = _fields_of(kind)
        if private:
            raise InvalidJobError(f"{what}: the field {private[0]!r} of {kind.__qualname__} is not stored; {RENAME}")
        parts = [getattr(value, name, None) for name in names]
    for part in parts:
        if type(part) not in _SCALARS:
            _refuse_private(part, what)


@functools.lru_cache(1024)
def _fields_of(kind: Any) -> tuple[tuple[str, ...], list[str]]:
    fields = getattr(kind, "__attrs_attrs__", None)
    names = getattr(kind, "__struct_fields__", ()) or getattr(kind, "__dataclass_fields__", ())
    return tuple(names if fields is None else (field.name for field in fields)), private_fields(kind)


def _mask(value: Any) -> Any:
    return _MASK if isinstance(value, Secret) else to_json(value)


def check(value: Any, what: str, depth: int = 0, *, masked: Any = msgspec.UNSET) -> None:
    """Raise InvalidJobError, naming the place, for a plain value that some storage does not keep exactly.

    masked: the same value with a mask in place of each Secret, whose content the error does not show (default: the
        value, which holds no Secret).
    """
    kind = type(value)
    if masked is msgspec.UNSET:
        masked = value
    hidden = masked is _MASK
    if kind is str:
        check_text(value, what)
    elif kind is int:
        if not _INT_MIN <= value <= _INT_MAX:
            number = "a number" if hidden else short_repr(value)
            raise InvalidJobError(
                f"{what} is {number}, beyond the 64 bits of an integer in JSON storage; pass it as text"
            )
    elif kind is float:
        if not math.isfinite(value):
            raise InvalidJobError(f"{what} is {value}, which has no JSON form; pass None or text")
    elif kind is dict:
        if depth >= MAX_DEPTH:
            raise InvalidJobError(f"{what} is nested more than {MAX_DEPTH} levels deep")
        for key, item in value.items():
            check_text(key, what)
            if hidden:
                check(item, what, depth + 1, masked=_MASK)
            else:
                place = key if key in masked else _MASK  # a Secret is the key
                inner = masked.get(key, _MASK)  # pyright: ignore[reportAttributeAccessIssue]  (it is hidden otherwise)
                check(item, _brief(f"{what}.{place}"), depth + 1, masked=inner)
    elif kind is list or kind is tuple:
        if depth >= MAX_DEPTH:
            raise InvalidJobError(f"{what} is nested more than {MAX_DEPTH} levels deep")
        for index, item in enumerate(value):
            check(item, what if hidden else f"{what}[{index}]", depth + 1, masked=masked if hidden else masked[index])


def _brief(path: str) -> str:
    """Cut the path to a value to 200 characters: its keys may be of any length."""
    return path if len(path) <= 200 else f"{path[:100]}…{path[-80:]}"


def check_text(text: str, what: str) -> str:
    """Return text that every storage keeps; raises InvalidJobError for NUL characters and lone surrogates."""
    if "\0" in text:
        raise InvalidJobError(f"{what} holds a NUL character (\\0), which PostgreSQL cannot store")
    if not text.isascii() and not is_unicode(text):
        raise InvalidJobError(f"{what} holds a lone surrogate, which UTF-8 cannot encode")
    return text


def is_unicode(text: str) -> bool:
    """Return whether text can be written as UTF-8, for it has no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def fingerprint(kind: str, arguments: bytes) -> bytes:
    """Return 16 bytes that are equal for equal kind and arguments; the order of keys does not count, at any depth."""
    import hashlib  # only kinds that keep a fingerprint need it

    canonical = _canonical.encode([kind, msgspec.json.decode(arguments)])
    return hashlib.blake2b(canonical, digest_size=16).digest()
