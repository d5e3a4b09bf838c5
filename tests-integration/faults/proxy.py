"""A proxy in front of a PostgreSQL server that knows the message boundaries, and can drop messages.

    with Proxy(server.dsn) as proxy:
        storage = open_storage(proxy.url)
        proxy.cut("C", after=True)      # the client's next Close reaches the server, then the connection breaks
        proxy.cut_answer("Z", nth=3)    # the answers before the server's third ReadyForQuery arrive, that one does not
        with proxy.black_hole(): …      # the server's answers are dropped, connections stay open
        with proxy.held_back(): …       # everything arrives late, in both directions
        proxy.delay = 0.05              # seconds for each piece of data
        proxy.refuse = True             # new connections are closed at once

The protocol defines the kinds: https://www.postgresql.org/docs/current/protocol-message-formats.html. A client sends Q
(Query), P B D E S (extended query), C (Close), X (Terminate), and START, SSL, GSS, CANCEL for the first message, which
has no letter. A server sends Z (ReadyForQuery), C (CommandComplete), T, D, E (Error), A (Notification), ….
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import attrs

_FIRST = {80877102: "CANCEL", 80877103: "SSL", 80877104: "GSS"}
"""Codes of the messages that a client may send instead of a startup message."""


@attrs.define
class Cut:
    """Break the connection at the nth message of a kind that contains `text`, counted over all connections."""

    kind: str | None
    nth: int
    after: bool
    text: bytes
    hit: threading.Event = attrs.field(factory=threading.Event)

    def meets(self, kind: str, data: bytes) -> bool:
        """Count this message; return whether the connection breaks here."""
        if (self.kind is None or self.kind == kind) and self.text in data:
            self.nth -= 1
            return self.nth == 0
        return False

    def wait(self, timeout: float = 30) -> None:
        """Wait until the cut has happened."""
        if not self.hit.wait(timeout):
            raise AssertionError(f"no such message reached the proxy within {timeout} s: {self}")


class _BrokenError(Exception):
    """The connection must end here."""


class Proxy:
    """Listen on 127.0.0.1 in a separate thread while the `with` block runs."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        options = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self._path = parts.path
        self._user = parts.username or "postgres"
        self._host = options.pop("host", None) or parts.hostname or "127.0.0.1"
        self._server_port = int(options.pop("port", None) or parts.port or 5432)
        self._options = options
        self._cuts: dict[bool, list[Cut]] = {True: [], False: []}
        self._hole = self._deaf = False
        self._opening: Cut | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="proxy", daemon=True)
        self.port = 0
        self.delay = 0.0
        """Delay of each piece of data, in seconds, in both directions."""
        self.refuse = False
        """Whether the proxy closes new connections at once."""
        self.sent: Counter[str] = Counter()
        """Number of client messages by kind."""
        self.answered: Counter[str] = Counter()
        """Number of server messages by kind."""
        self.late: Counter[str] = Counter()
        """Number of connections by the kind of the first client message that was held back and then forwarded."""
        self.connections = 0
        """Number of connections opened."""

    @property
    def url(self) -> str:
        """The database's URL through this proxy, which does not support TLS."""
        return self.url_of(self._path)

    def url_of(self, path: str, **options: object) -> str:
        """Return the URL of another database of the server, or a URL with more options."""
        given = {**self._options, "sslmode": "disable", "gssencmode": "disable", **options}
        query = "&".join(f"{name}={value}" for name, value in given.items())
        return f"postgresql://{self._user}@127.0.0.1:{self.port}/{path.lstrip('/')}?{query}"

    def cut(self, kind: str | None = None, *, nth: int = 1, after: bool = False, text: bytes = b"") -> Cut:
        """Break a connection at the nth client message of this kind. after: the message still arrives."""
        return self._add(True, Cut(kind, nth, after, text))

    def cut_answer(self, kind: str | None = None, *, nth: int = 1, after: bool = False, text: bytes = b"") -> Cut:
        """Break a connection at a server message: before 'Z', for example, all is done and the client does not know."""
        return self._add(False, Cut(kind, nth, after, text))

    def _add(self, upwards: bool, cut: Cut) -> Cut:
        self._cuts[upwards].append(cut)
        return cut

    def heal(self) -> None:
        """Remove all pending cuts and the delay, and accept connections again."""
        self._cuts = {True: [], False: []}
        self.delay, self.refuse = 0.0, False

    @contextlib.contextmanager
    def black_hole(self, *, both: bool = False, since: bytes | None = None) -> Iterator[Cut]:
        """Drop the server's answers on all connections. A connection that lost an answer never answers again.

        both: also drop the clients' messages. since: begin with the first server message that contains this text; the
        caller can wait for that message.
        """
        opening = Cut(None, 1, False, since or b"")
        self._deaf = both
        if since is None:
            self._hole = True
        else:
            self._opening = opening
        try:
            yield opening
        finally:
            self._opening = None
            self._hole = self._deaf = False

    @contextlib.contextmanager
    def held_back(self) -> Iterator[None]:
        """Hold back all data, both ways, until the block ends; then forward it, as TCP does after a partition."""
        self._loop.call_soon_threadsafe(self._through.clear)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._through.set)

    def break_all(self) -> None:
        """Break all open connections."""
        asyncio.run_coroutine_threadsafe(self._break_all(), self._loop).result(10)

    async def _break_all(self) -> None:
        for link in list(self._links):
            link.cancel()

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the proxy did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._through = asyncio.Event()
        self._through.set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._ended.wait()
        server.close()
        await self._break_all()
        if self._links:
            await asyncio.wait(self._links, timeout=5)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        try:
            await self._link(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # broken connections are the purpose of the proxy
        finally:
            writer.transport.abort()
            self._links.discard(link)

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.refuse:
            return
        if self._host.startswith("/"):
            opening = asyncio.open_unix_connection(f"{self._host}/.s.PGSQL.{self._server_port}")
        else:
            opening = asyncio.open_connection(self._host, self._server_port)
        upper, lower = await opening
        pumps = [
            asyncio.ensure_future(self._pump(pump))
            for pump in (self._upwards(reader, lower, writer), self._downwards(upper, writer))
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            # Close instead of abort: data forwarded just before a cut must reach the server.
            lower.close()

    async def _pump(self, pump: Coroutine[Any, Any, None]) -> None:
        with contextlib.suppress(_BrokenError, OSError, asyncio.IncompleteReadError):
            await pump

    async def _upwards(
        self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        swallowed = False
        async for kind, data in _client_messages(reader):
            self.sent[kind] += 1
            swallowed = swallowed or (self._deaf and self._hole)
            if swallowed:
                continue
            if kind in ("SSL", "GSS"):
                back.write(b"N")
                await back.drain()
                continue
            await self._pass(True, kind, data, to)

    async def _downwards(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        swallowed = False
        async for kind, data in _messages(reader):
            self.answered[kind] += 1
            if (opening := self._opening) is not None and opening.meets(kind, data):
                self._hole = True
                opening.hit.set()
            swallowed = swallowed or self._hole
            if not swallowed:
                await self._pass(False, kind, data, to)

    async def _pass(self, upwards: bool, kind: str, data: bytes, to: asyncio.StreamWriter) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        if not self._through.is_set():
            await self._through.wait()
            if upwards:
                self.late[kind] += 1
        # Every cut counts the message, so that each has its own count.
        met = [cut for cut in self._cuts[upwards] if cut.meets(kind, data)]
        if not met or any(cut.after for cut in met):
            to.write(data)
            await to.drain()
        for cut in met:
            cut.hit.set()
        if met:
            raise _BrokenError


async def _client_messages(reader: asyncio.StreamReader) -> AsyncIterator[tuple[str, bytes]]:
    while True:
        size = await reader.readexactly(4)
        data = size + await reader.readexactly(struct.unpack("!I", size)[0] - 4)
        kind = _FIRST.get(struct.unpack("!I", data[4:8])[0], "START")
        yield kind, data
        if kind == "START":
            break
    async for message in _messages(reader):
        yield message


async def _messages(reader: asyncio.StreamReader) -> AsyncIterator[tuple[str, bytes]]:
    while True:
        head = await reader.readexactly(5)
        yield chr(head[0]), head + await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
