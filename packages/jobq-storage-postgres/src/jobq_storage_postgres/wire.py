"""Values on their way into PostgreSQL's binary format, and statements on their way over a connection.

psycopg's cursors are for whatever people may write; here is a fixed set of statements whose parameters are known, run
thousands of times a second. So parameters are packed here, column by column, and statements are prepared by name and
sent through `psycopg.pq`, several in one round trip: all up to the next 'sync' are one transaction.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias
from uuid import UUID

import psycopg
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

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


def unpack_moment(data: bytes) -> datetime:
    """Make an aware datetime of a timestamptz, the last or the first there is of one that Python has no year for."""
    microseconds: int = _INT8.unpack(data)[0]
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if microseconds > 0 else datetime.min.replace(tzinfo=UTC)


class Array:
    """How to pack an array of one type: `Array(oid, pack)(values)`; None in it is NULL."""

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
            # Elements of one width are told apart by the same length before each.
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
        """Pack the values, or NULL for all of them if there are none: unnest pads it to the length of the others."""
        return None if values.count(None) == len(values) else self(values)


uuids: Final = Array(2950, None, 16)
"""Of the 16 bytes of each."""
int2s: Final = Array(21, pack_int2, 2)
int4s: Final = Array(23, pack_int4, 4)
int8s: Final = Array(20, pack_int8, 8)
float8s: Final = Array(701, pack_float8, 8)
texts: Final = Array(25, pack_text)
jsons: Final = Array(114, None)
byteas: Final = Array(17, None)
moments: Final = Array(1184, pack_moment, 8)


def text_array(values: Iterable[str]) -> str:
    """Write an array of text as PostgreSQL's text of it, for arrays within arrays."""
    quoted = (value.replace("\\", "\\\\").replace('"', '\\"') for value in values)
    return "{" + ",".join(f'"{value}"' for value in quoted) + "}"


class Statement:
    """One SQL statement with parameters $1, $2, …, under a name."""

    __slots__ = ("formats", "key", "name", "sql")

    def __init__(self, name: str, sql: str) -> None:
        self.name = name
        self.key = f"jobq_{name}".encode()
        self.sql = sql.encode()

    def __repr__(self) -> str:
        return f"<Statement {self.name}>"


Step: TypeAlias = "tuple[Statement, Params]"

READ: Final = 1
WRITE: Final = 2


def say(pgconn: PGconn, steps: Sequence[Step], prepared: set[bytes] | None) -> list[bytes]:
    """Send statements that are one transaction; returns the names that they prepare. What does not go out at once waits
    for `pgconn.flush`."""
    news: list[bytes] = []
    for statement, params in steps:
        formats = [1] * len(params)
        if prepared is None:
            pgconn.send_query_params(statement.sql, params, [0] * len(params), formats, 1)
            continue
        if statement.key not in prepared and statement.key not in news:
            pgconn.send_prepare(statement.key, statement.sql)
            news.append(statement.key)
        pgconn.send_query_prepared(statement.key, params, formats, 1)
    pgconn.pipeline_sync()
    return news


_COPIES: Final = frozenset({ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH})


def hear(pgconn: PGconn) -> Generator[int, int, tuple[list[PGresult], PGresult | None]]:
    """Take in the answers to one transaction: the results, and the first that is an error; yields as `converse`."""
    results: list[PGresult] = []
    failed: PGresult | None = None
    while True:
        while pgconn.is_busy():
            yield READ
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            if pgconn.status == ConnStatus.BAD:
                raise psycopg.OperationalError("the connection was lost")
            continue
        status = result.status
        if status == ExecStatus.PIPELINE_SYNC:
            break
        if status in _COPIES:
            # Nobody asked for one; it would be answered again and again.
            raise psycopg.OperationalError("the server began to copy, unasked")
        if status == ExecStatus.FATAL_ERROR:
            failed = failed or result
            if pgconn.status == ConnStatus.BAD:
                break
        results.append(result)
    return results, failed


def converse(
    pgconn: PGconn, steps: Sequence[Step], prepared: set[bytes] | None, behind: Sequence[Step] = ()
) -> Generator[int, int, list[PGresult]]:
    """Run statements in one transaction and one round trip; yields what to wait for at the socket (READ, WRITE).

    prepared: the names known on this connection, or None to prepare nothing. The connection is in pipeline mode.
    behind: a second transaction, sent behind this one, whose answers are left for `hear`; already prepared.
    Returns a result per statement; raises the driver's error of the first that failed.
    """
    news = say(pgconn, steps, prepared)
    if behind:
        say(pgconn, behind, prepared)
    while pgconn.flush():
        if (yield READ | WRITE) & READ:
            pgconn.consume_input()
    results, failed = yield from hear(pgconn)
    if failed is not None:
        raise psycopg.errors.error_from_result(failed)
    if prepared is not None and news:
        prepared.update(news)
        results = [result for result in results if not _was_preparing(result)]
    if len(results) != len(steps):
        # From no server that keeps to the protocol; whose answer is whose cannot be told any more.
        raise psycopg.OperationalError(f"{len(steps)} statements got {len(results)} answers")
    for result in results:
        if result.status == ExecStatus.TUPLES_OK and result.command_tuples not in (result.ntuples, None):
            raise psycopg.OperationalError(f"{result.ntuples} rows came of {result.command_tuples}")
    return results


def _was_preparing(result: PGresult) -> bool:
    # What answers a 'prepare' is the only result that has neither columns nor a command's name.
    return result.status == ExecStatus.COMMAND_OK and not result.command_status
