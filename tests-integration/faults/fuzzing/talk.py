"""A server that speaks PostgreSQL's protocol and replays a real server's answers, changed where a test asks for it.

A question is everything that a client sends up to a Sync; an answer is everything up to ReadyForQuery. So any
connection can ask the recorded questions, in any order.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, TypeAlias

from psycopg.conninfo import conninfo_to_dict

Twist: TypeAlias = "Callable[[bytes], list[bytes]]"
"""Turns an answer into the pieces that the server sends instead."""

HELLO: Final = b""
"""The first question of each connection."""
SETTINGS: Final = b"settings"
_PLAIN: Final = (80877103, 80877104)
"""Requests for encryption, which the server refuses."""


def messages(answer: bytes) -> list[bytes]:
    """Split an answer into its messages."""
    found = []
    while answer:
        length = 1 + int.from_bytes(answer[1:5], "big")
        found.append(answer[:length])
        answer = answer[length:]
    return found


def message(kind: bytes, body: bytes) -> bytes:
    """Make a message."""
    return kind + struct.pack("!i", len(body) + 4) + body


async def _question(reader: asyncio.StreamReader, to: asyncio.StreamWriter | None = None) -> bytes:
    """Read everything up to the next Sync, and forward it."""
    parts = []
    while True:
        head = await reader.readexactly(5)
        body = await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
        parts += [head, body]
        if to is not None:
            to.write(head + body)
        if head[:1] == b"S":
            # All questions that set session options count as one, since their time limits differ.
            return SETTINGS if any(b"jobq_set\0" in part for part in parts) else b"".join(parts)


async def _greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Read the startup message of a connection; refuse encryption."""
    while True:
        head = await reader.readexactly(4)
        body = await reader.readexactly(int.from_bytes(head, "big") - 4)
        if int.from_bytes(body[:4], "big") not in _PLAIN:
            return head + body
        writer.write(b"N")


def _without(kind: bytes, talk: bytes) -> bytes:
    """Remove the messages of one kind."""
    if talk in (HELLO, SETTINGS):
        return talk
    return b"".join(each for each in messages(talk) if each[:1] != kind)


@contextlib.asynccontextmanager
async def serving(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[int]:
    """Serve connections on a local port; close all of them at the end."""
    tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(one(reader, writer))
        tasks[task] = writer

    async with await asyncio.start_server(begin, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
    for task in tasks:
        task.cancel()  # the client gave up, and its connection is still open
    await asyncio.gather(*tasks, return_exceptions=True)
    for writer in tasks.values():
        writer.close()  # a task that has not started closes nothing
    await asyncio.sleep(0)


class Recorder:
    """Forward questions to a real server, and record its answers."""

    def __init__(self, url: str) -> None:
        given = conninfo_to_dict(url)
        self._socket = f"{given['host']}/.s.PGSQL.{given.get('port', 5432)}"
        self.said: dict[bytes, bytes] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        there, to = await asyncio.open_unix_connection(self._socket)
        try:
            to.write(await _greeting(reader, writer))
            self.said[HELLO] = await self._pass_on(there, writer)
            while True:
                question = await _question(reader, to)
                self.said[question] = await self._pass_on(there, writer)
        except asyncio.IncompleteReadError:
            pass  # the client has closed the connection
        finally:
            to.close()

    async def _pass_on(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        parts = []
        while True:
            head = await there.readexactly(5)
            part = head + await there.readexactly(int.from_bytes(head[1:], "big") - 4)
            parts.append(part)
            writer.write(part)
            if head[:1] == b"Z":
                return b"".join(parts)


class Replayer:
    """Replay recorded answers; change the answer to one question once."""

    def __init__(self, said: dict[bytes, bytes]) -> None:
        # A repeated question on one connection is not prepared again.
        self._said = {_without(b"P", question): _without(b"1", answer) for question, answer in said.items()} | said
        self._twist: tuple[bytes, Twist, bool] | None = None
        self.unknown = 0
        """Number of questions without a recorded answer."""

    def twist(self, question: bytes, twist: Twist, hang_up: bool) -> None:
        """Change the next answer to a question. hang_up: close the connection after it."""
        self._twist = question, twist, hang_up

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await _greeting(reader, writer)
            going = await self._answer(HELLO, writer)
            while going:
                going = await self._answer(await _question(reader), writer)

    async def _answer(self, question: bytes, writer: asyncio.StreamWriter) -> bool:
        answer = self._said.get(question)
        if answer is None:
            self.unknown += 1
            return False
        if self._twist is None or self._twist[0] != question:
            writer.write(answer)
            return True
        _, twist, hang_up = self._twist
        self._twist = None
        for piece in twist(answer):
            writer.write(piece)
            # Send the pieces apart, so that the client reads each of them separately.
            await writer.drain()
            await asyncio.sleep(0)
        return not hang_up
