"""Values in PostgreSQL's binary format.

The statements of this package have known parameters and run thousands of times a second, so their parameters are
packed here, column by column, without psycopg's adapters.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias, TypeVar
from uuid import UUID

T = TypeVar("T")

Param: TypeAlias = "bytes | None"
Params: TypeAlias = "Sequence[bytes | None]"

_BOOL, _INT2, _INT4, _INT8, _FLOAT8 = (struct.Struct(f) for f in ("!?", "!h", "!i", "!q", "!d"))
_HEAD = struct.Struct("!iiIii")
_LENGTH = _INT4
_NULL: Final = b"\xff\xff\xff\xff"
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

pack_bool: Callable[[bool], bytes] = _BOOL.pack
pack_int2: Callable[[int], bytes] = _INT2.pack
pack_int4: Callable[[int], bytes] = _INT4.pack
pack_int8: Callable[[int], bytes] = _INT8.pack
pack_float8: Callable[[float], bytes] = _FLOAT8.pack
pack_text: Callable[[str], bytes] = str.encode


def pack_uuid(value: UUID) -> bytes:
    """Pack a uuid."""
    return value.bytes


def pack_moment(value: datetime) -> bytes:
    """Pack an aware datetime as timestamptz."""
    return _INT8.pack((value - _EPOCH) // _MICROSECOND)


def pack_optional(pack: Callable[[T], bytes], value: T | None) -> bytes | None:
    """Pack a value, or None as NULL."""
    return None if value is None else pack(value)


def unpack_moment(data: bytes) -> datetime:
    """Return the aware datetime of a timestamptz; the first or last datetime if Python lacks its year."""
    microseconds: int = _INT8.unpack(data)[0]
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if microseconds > 0 else datetime.min.replace(tzinfo=UTC)


class Array:
    """Packs arrays of one type: `Array(oid, pack)(values)`. None becomes NULL.

    pack: packs one element; None if elements are bytes. width: the size of each element in bytes, if all are equal.
    """

    def __init__(self, oid: int, pack: Callable[..., bytes] | None, width: int | None = None) -> None:
        self._oid = oid
        self._pack = pack
        self._prefix = None if width is None else _LENGTH.pack(width)

    def __call__(self, values: Sequence[object]) -> bytes:
        """Pack the values."""
        if not values:
            return _HEAD.pack(0, 0, self._oid, 0, 1)[:12]
        pack = self._pack
        if self._prefix is not None and None not in values:
            # Elements of equal size have the same length field before each.
            packed = values if pack is None else map(pack, values)
            return b"".join(
                (_HEAD.pack(1, 0, self._oid, len(values), 1), self._prefix, self._prefix.join(packed))  # type: ignore[arg-type]
            )
        parts = [_HEAD.pack(1, 1 if None in values else 0, self._oid, len(values), 1)]
        for value in values:
            if value is None:
                parts.append(_NULL)
            else:
                data: bytes = value if pack is None else pack(value)  # type: ignore[assignment]
                parts.append(_LENGTH.pack(len(data)))
                parts.append(data)
        return b"".join(parts)

    def sparse(self, values: Sequence[object]) -> bytes | None:
        """Pack the values, or return None if all are None: unnest pads a NULL array to the length of the others."""
        return None if values.count(None) == len(values) else self(values)


uuids: Final = Array(2950, None, 16)
"""Of UUIDs as 16 bytes each."""
int2s: Final = Array(21, pack_int2, 2)
int4s: Final = Array(23, pack_int4, 4)
int8s: Final = Array(20, pack_int8, 8)
float8s: Final = Array(701, pack_float8, 8)
texts: Final = Array(25, pack_text)
jsons: Final = Array(114, None)
byteas: Final = Array(17, None)
moments: Final = Array(1184, pack_moment, 8)


def text_array(values: Iterable[str]) -> str:
    """Return the text form of an array of text, for arrays of arrays."""
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"
