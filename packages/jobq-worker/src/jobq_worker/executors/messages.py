"""What a worker and its handler processes say to each other: JSON messages over a socket, and never a pickle.

Both ends block while the other does not read, so messages never pile up in memory.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Any, Final
from uuid import UUID

import msgspec
from msgspec import Struct

from jobq_core.clock_offset import Measured
from jobq_core.json_types import to_json
from jobq_core.records import Progress
from jobq_core.storage import ClaimedJob, Settlement
from jobq_worker.running.run import Stop

_LENGTH: Final = struct.Struct("!I")


class FunctionReference(Struct, frozen=True):
    """Where a process finds a function: its module, and its name there."""

    module: str
    name: str


class HandlerReference(Struct, frozen=True):
    """Where a process finds the handler of a kind.

    module: the module that declares the job. supplied: the function that was supplied with `@worker.handles`, for a job
    that was declared without a handler.
    """

    kind: str
    module: str
    supplied: FunctionReference | None = None


class ProviderReference(Struct, frozen=True):
    """Where a process finds a provider of a resource, and the resource's scope: 'worker', here once per process, or
    'run'."""

    function: FunctionReference
    scope: str


class Setup(Struct, tag=True):
    """The first message to a process.

    worker, parent: the worker's id and process id. main: what `multiprocessing` needs to import the program's main
    module, if that declares jobs. levels: of the loggers by name, the root logger's as ''. disabled: the level of
    `logging.disable`. interrupt_after: seconds after a request to stop in which a handler can end by itself; then it is
    interrupted by an exception.
    """

    handlers: list[HandlerReference]
    middleware: list[FunctionReference]
    providers: list[ProviderReference]
    worker: UUID
    parent: int
    main: dict[str, str]
    levels: dict[str, int]
    disabled: int
    interrupt_after: float


class StartRun(Struct, tag=True):
    """Run a job. clock: the measured offset of the storage's clock. deadline_in: seconds left until the job's deadline,
    if it has one."""

    job: ClaimedJob
    clock: Measured
    deadline_in: float | None = None


class StopRun(Struct, tag=True):
    """Ask the run of this lease to stop."""

    lease: int
    reason: Stop


class ShowStacks(Struct, tag=True):
    """Ask for the stacks of the process."""


class Stacks(Struct, tag=True):
    """The stacks of the process, as text."""

    text: str


class Ready(Struct, tag=True):
    """The process has imported its handlers."""


class NotReady(Struct, tag=True):
    """The process cannot import its handlers, and ends. error: the traceback."""

    error: str


class Begun(Struct, tag=True):
    """The run has begun: its handler is called next."""


class Report(Struct, tag=True):
    """A progress report."""

    lease: int
    progress: Progress


class LogEntry(Struct, tag=True):
    """A log record: the attributes of a `logging.LogRecord`, as plain JSON values."""

    record: dict[str, Any]


class Ended(Struct, tag=True):
    """The handler has ended. settlement: None for a run whose lease was lost. told: it had noticed that it was asked to
    stop. memory: bytes that the process holds. progress: the last report, if it was not sent before."""

    settlement: Settlement | None
    told: bool
    memory: int
    progress: Progress | None = None


ToProcess = Setup | StartRun | StopRun | ShowStacks
FromProcess = Ready | NotReady | Begun | Report | LogEntry | Stacks | Ended


_encoder = msgspec.json.Encoder(enc_hook=to_json)
_decoders: Final = {side: msgspec.json.Decoder(side) for side in (ToProcess, FromProcess)}


class Channel:
    """One end of a connection. expected: the union of the messages that it receives.

    Several threads may send; one receives.
    """

    def __init__(self, connection: socket.socket, expected: Any) -> None:
        self._connection = connection
        self._decoder: msgspec.json.Decoder[Any] = _decoders[expected]
        self._sending = threading.Lock()

    def fileno(self) -> int:
        """Return the socket's number, to wait for messages."""
        return self._connection.fileno()

    def send(self, message: ToProcess | FromProcess) -> None:
        """Send a message; blocks while the other end does not read. Raises OSError if the other end is gone."""
        data = _encoder.encode(message)
        with self._sending:
            self._connection.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self) -> Any:
        """Wait for the next message; None if the other end is gone."""
        try:
            header = self._read(_LENGTH.size)
            data = None if header is None else self._read(_LENGTH.unpack(header)[0])
        except OSError:
            return None
        return None if data is None else self._decoder.decode(data)

    def _read(self, size: int) -> bytearray | None:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            count = self._connection.recv_into(view)
            if not count:
                return None
            view = view[count:]
        return data

    def end(self) -> None:
        """Send no more; the other end may go on sending."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close this end; the other end can neither send nor receive."""
        self._connection.close()
