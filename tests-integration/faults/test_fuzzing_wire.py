"""A server whose answers are cut, split or changed: the storage returns the right answer, or raises an error.

After that, the next call gets the right answer, over a connection that is in sync.
"""

from __future__ import annotations

import asyncio
import resource
import struct
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
import psycopg
import pytest
from fuzzing.talk import HELLO, Recorder, Replayer, Twist, message, messages, serving
from fuzzing.verdicts import TIMEOUT, try_all
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict
from scaling import Scale

from jobq_core.errors import StorageError
from jobq_core.records import WorkerInfo
from jobq_core.states import Ending
from jobq_core.storage import Claim, JobFilter, NewJob, QueueStorage, Settlement
from jobq_storage_postgres import PostgresQueueStorage
from jobq_storage_postgres.protocol import TimeLimitError

WORKER = UUID("01990000-0000-7000-8000-000000000001")
JOBS = [UUID(f"01990000-0000-7000-8000-0000000001{number:02}") for number in range(6)]
LATER = datetime(2200, 1, 1, tzinfo=UTC)
NEW = NewJob(id=UUID("01990000-0000-7000-8000-000000000200"), queue="b", kind="k", arguments=b"{}")


async def recovered(storage: QueueStorage) -> list[Any]:
    """Return the claims that a worker recovers, in a comparable form."""
    return [msgspec.structs.astuple(job) for job in await storage.recover_claims(WORKER, [])]


# Operations without notifications, so that all statements use one connection, in this order.
Operation = Callable[[QueueStorage], Awaitable[Any]]
OPERATIONS: dict[str, Operation] = {
    "now": lambda storage: storage.now(),
    "get": lambda storage: storage.get(JOBS),
    "get_status": lambda storage: storage.get_status(JOBS),
    "find": lambda storage: storage.find(JobFilter(queue="a"), limit=3),
    "counts": lambda storage: storage.counts(),
    "workers": lambda storage: storage.workers(),
    "check_leases": lambda storage: storage.check_leases(WORKER, [(job, 1) for job in JOBS]),
    "recover_claims": lambda storage: recovered(storage),
    "mark_started": lambda storage: storage.mark_started(WORKER, [(job, 10**9) for job in JOBS]),
    "output_for": lambda storage: storage.output_for("a", "k", b"f" * 16),
    "abort": lambda storage: storage.abort([JOBS[5]]),
    "settle": lambda storage: storage.settle_and_claim(
        WORKER, [Settlement(id=job, lease=10**9 + 1, ending=Ending.COMPLETE) for job in JOBS]
    ),
}  # fmt: skip


async def prepare(url: str) -> None:
    """Prepare jobs for all kinds of answers: some run, one is completed, one waits."""
    storage = PostgresQueueStorage(url)
    await storage.migrate()
    async with storage:
        info = WorkerInfo(
            id=WORKER, name="w", host="h", pid=1, queues=("a",), kinds=("k",), concurrency=9, lost_after=86_400.0
        )
        await storage.register(info)
        await storage.add(
            [
                NewJob(
                    id=job, queue="a", kind="k", arguments=b'{"word": "gr\xc3\xbc\xc3\x9fe", "number": 7}',
                    tags=("x", "y"), timeout=5.0, backoff=b'{"base": 2}', fingerprint=b"f" * 16,
                    run_at=LATER if job == JOBS[4] else None,
                )
                for job in JOBS[:5]
            ]
        )  # fmt: skip
        claimed = (await storage.settle_and_claim(WORKER, (), Claim.of("a", limit=3))).claimed
        await storage.settle_and_claim(
            WORKER, [Settlement(id=claimed[0].id, lease=claimed[0].lease, ending=Ending.COMPLETE, result=b"[1, 2]")]
        )


async def record(url: str) -> tuple[dict[bytes, bytes], dict[str, bytes], dict[str, Any]]:
    """Run all operations on a real server; return the recording, the question of each operation, and its answer."""
    recorder = Recorder(url)
    async with serving(recorder.serve) as port:
        storage = PostgresQueueStorage(_url(port, url, 30))
        asked, answers = {}, {}
        async with storage:
            opening = list(recorder.said)
            for name, operation in OPERATIONS.items():
                before = set(recorder.said)
                answers[name] = await operation(storage)
                # Some operations ask twice: each question counts separately.
                new = [question for question in recorder.said if question not in before]
                asked |= {f"{name} {number}".removesuffix(" 0"): question for number, question in enumerate(new)}
        return recorder.said, asked | {f"opening {n}": question for n, question in enumerate(opening)}, answers


def _url(port: int, url: str, limit: float) -> str:
    given = conninfo_to_dict(url)
    user, name = given.get("user", "postgres"), given["dbname"]
    return f"postgresql://{user}@127.0.0.1:{port}/{name}?time_limit={limit}&sslmode=disable&gssencmode=disable"


STRAYS = [
    message(b"Z", b"I"), message(b"Z", b"E"), message(b"C", b"SELECT 1\0"), message(b"1", b""), message(b"2", b""),
    message(b"n", b""), message(b"s", b""), message(b"I", b""), message(b"D", struct.pack("!h", 0)),
    message(b"D", struct.pack("!hi", 1, -1)), message(b"D", struct.pack("!hi", 1, 2**31 - 1)),
    message(b"D", b"\x7f\xff"),
    message(b"T", struct.pack("!h", 0)), message(b"T", b"\x7f\xff"), message(b"t", struct.pack("!h", 0)),
    message(b"E", b"SERROR\0C40001\0Mstop\0\0"), message(b"E", b"SERROR\0C57P01\0Mgone\0\0"), message(b"E", b"\0"),
    message(b"E", b"M" + b"x" * 50_000), message(b"N", b"SNOTICE\0Mhear\0\0"),
    message(b"A", b"\0\0\0\1jobq\0queue:a\0"),
    message(b"A", b""), message(b"S", b"client_encoding\0LATIN1\0"), message(b"S", b"TimeZone\0nowhere\0"),
    message(b"K", b"\0" * 8), message(b"R", b"\0\0\0\3"), message(b"G", b"\0\0\0"), message(b"H", b"\0\0\0"),
    message(b"W", b"\0\0\0"), message(b"d", b"copied"), message(b"c", b""), message(b"V", b"\xff\xff\xff\xff"),
    message(b"v", b"\0\3\0\0\0\0\0\0"), message(b"?", b"what"), b"\xff" * 9, b"\0" * 9,
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
]  # fmt: skip
LENGTHS = [-(2**31), -1, 0, 1, 3, 4, 5, 30_001, 2**24, 2**30, 2**31 - 1]


ROWS = (b"D", b"T")


def _values(parts: list[bytes]) -> set[int]:
    """Return the offsets of the values, and of their types, in an answer. The test does not change them: the driver's C
    code trusts the server there, and may read beyond the end of a value whose length does not fit its type."""
    places: set[int] = set()
    start = 0
    for part in parts:
        if part[:1] in ROWS:
            places.update(range(start + 5, start + len(part)))
        start += len(part)
    return places


class Change:
    """A change of an answer. keeps: the content stays the same, split into pieces."""

    def __init__(self, name: str, keeps: bool, twist: Twist) -> None:
        self.name = name
        self.keeps = keeps
        self.twist = twist

    def __repr__(self) -> str:
        return self.name


@st.composite
def changes(draw: st.DrawFn) -> Change:
    """Draw a change; its position is a fraction of the answer's length."""
    kind = draw(st.sampled_from(["split", "cut", "flip", "length", "kind", "drop", "twice", "stray", "swap"]))
    at = draw(st.floats(0, 1, exclude_max=True))
    flips = draw(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4))
    length, stray, letter = draw(st.sampled_from(LENGTHS)), draw(st.sampled_from(STRAYS)), draw(st.integers(0, 255))
    step = draw(st.sampled_from([1, 2, 3, 5, 7, 100]))

    def twist(answer: bytes) -> list[bytes]:
        parts = messages(answer)
        place = int(at * len(parts))
        if kind == "split":
            return [answer[start : start + step] for start in range(0, len(answer), step)]
        if kind == "cut":
            return [answer[: int(at * len(answer))]]
        if kind == "flip":
            flipped = bytearray(answer)
            values = _values(parts)
            for share, mask in flips:
                if int(share * len(answer)) not in values:
                    flipped[int(share * len(answer))] ^= mask
            return [bytes(flipped)]
        if kind == "length":
            parts[place] = parts[place][:1] + struct.pack("!i", length) + parts[place][5:]
        elif kind == "kind" and bytes([letter]) not in ROWS:
            parts[place] = bytes([letter]) + parts[place][1:]
        elif kind == "drop":
            del parts[place]
        elif kind == "twice":
            parts.insert(place, parts[place])
        elif kind == "stray":
            parts.insert(place, stray)
        else:
            parts[place : place + 2] = reversed(parts[place : place + 2])
        return [b"".join(parts)]

    return Change(f"{kind} at {at:.3f} ({flips=} {length=} {stray=} {letter=} {step=})", kind == "split", twist)


def too_late(answer: Any) -> bool:
    """Return whether this is the error of an answer that exceeded the time limit."""
    return isinstance(answer, StorageError) and isinstance(answer.__cause__, (TimeLimitError, TimeoutError))


async def tried(said: dict[bytes, bytes], url: str, question: bytes, name: str, change: Change, hang_up: bool) -> Any:
    """Run one operation on a server that changes one answer, and run it twice more without a change.

    Repeats the last run if it exceeded the storage's short time limit, which can happen on a busy machine.
    """
    parrot = Replayer(said)
    async with serving(parrot.serve) as port:
        storage = PostgresQueueStorage(_url(port, url, 30 if change.keeps else 0.3))
        parrot.twist(question, change.twist, hang_up)
        answers = []
        try:
            while len(answers) < 3 or (too_late(answers[-1]) and len(answers) < 20):
                try:
                    await storage.open()
                    answers.append(await OPERATIONS[name](storage))
                except StorageError as error:
                    answers.append(error)
        finally:
            await storage.close()
    return answers[0], answers[1], answers[-1]


@pytest.fixture(scope="module")
def recorded(postgres_server: Any) -> Any:
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        # Tests that are distributed by `worksteal` come out of order: a process may come to this module twice.
        connection.execute("DROP DATABASE IF EXISTS recorded WITH (FORCE)")
        connection.execute("CREATE DATABASE recorded")
    url = urlsplit(postgres_server.dsn)._replace(path="/recorded").geturl()
    asyncio.run(prepare(url))
    return url, asyncio.run(record(url))


def test_a_changed_answer_gives_the_right_result_or_an_error_and_the_next_is_right(
    recorded: Any, seed: int, scale: Scale, report: Callable[..., None]
) -> None:
    url, (said, asked, answers) = recorded
    assert HELLO in said
    failed = same = other = 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with asyncio.Runner() as runner:

        def check(drawn: tuple[str, str, Change, int]) -> None:
            nonlocal failed, same, other
            place, name, change, luck = drawn
            name = place.split()[0] if place.split()[0] in OPERATIONS else name
            # Only the time limit detects a connection that stays open: that is slow.
            hang_up = bool(luck) and not change.keeps
            talk = tried(said, url, asked[place], name, change, hang_up)
            first, second, third = runner.run(asyncio.wait_for(talk, TIMEOUT))
            wanted = answers[name]
            if isinstance(first, StorageError):
                failed += 1
            elif first == wanted:
                same += 1
            else:
                other += 1
            assert not change.keeps or first == wanted, first
            assert not isinstance(first, StorageError) or str(first)
            assert type(first) is type(wanted) or isinstance(first, StorageError) or wanted is None or first is None
            assert second == wanted or isinstance(second, StorageError), second
            assert third == wanted, third

        number = try_all(
            st.tuples(
                st.sampled_from(sorted(asked)), st.sampled_from(sorted(OPERATIONS)), changes(), st.integers(0, 11)
            ),
            check,
            count=scale.times(300, least=50),
            seed=seed,
        )
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    report("changed answers of a server", tried=number)
    assert min(failed, same) > 0, (failed, same, other)
    assert grown < 200_000, f"the memory grew by {grown} KiB"


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_an_answer_cut_at_any_byte_is_an_error(name: str, recorded: Any, report: Callable[..., None]) -> None:
    url, (said, asked, answers) = recorded
    answer = said[asked[name]]
    places = range(0, len(answer), max(1, len(answer) // 40))

    async def cut_each() -> None:
        for place in places:
            cut = Change(f"cut at byte {place}", False, lambda whole, place=place: [whole[:place]])  # type: ignore[misc]
            first, _, third = await tried(said, url, asked[name], name, cut, True)
            assert isinstance(first, StorageError), (place, first)
            assert third == answers[name]

    asyncio.run(cut_each())
    report("answers of a server that are cut", tried=len(places))
