"""The messages between a worker and its handler processes."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from jobq_core import Secret
from jobq_core.clock_offset import Measured
from jobq_core.ids import new_id
from jobq_core.records import ErrorRecord, Progress
from jobq_core.states import Ending
from jobq_core.storage import ClaimedJob, NewJob, Settlement
from jobq_worker.executors.messages import Channel, Ended, FromProcess, LogEntry, Ready, StartRun, ToProcess
from jobq_worker.executors.process_logs import ChannelHandler

JOB = ClaimedJob(new_id(), 2**62, "q", "k", b'{"n":"\\u00e4"}', 1, 3, timeout=0.5, tags=("a", "b"), meta=b'{"x":"y"}')


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    """The worker's end and the process's end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield Channel(ours, FromProcess), Channel(theirs, ToProcess)


def fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}


def test_a_claimed_job_crosses_unchanged(ends: tuple[Channel, Channel]) -> None:
    worker, process = ends
    worker.send(StartRun(JOB, clock=Measured(1e9, 2.5), deadline_in=3.5))
    received = process.receive()
    assert (received.clock, received.deadline_in, fields(received.job)) == (Measured(1e9, 2.5), 3.5, fields(JOB))


@pytest.mark.parametrize("when", [None, 2.5, datetime(2026, 5, 4, 3, 2, 1, 567, UTC)])
def test_a_settlement_crosses_unchanged(ends: tuple[Channel, Channel], when: Any) -> None:
    worker, process = ends
    settlement = Settlement(
        JOB.id,
        JOB.lease,
        Ending.RETRY,
        error=ErrorRecord(type="x.Y", message="ü", traceback="z"),
        when=when,
        progress=Progress(percent=1.5, details={"a": [1, None]}),
        jobs=(NewJob(id=new_id(), queue="q", kind="k", arguments=b"{}", run_at=when),),
    )
    process.send(Ended(settlement, told=True, memory=1))
    assert fields(worker.receive().settlement) == fields(settlement)


def test_a_message_larger_than_the_buffer_crosses_while_the_other_end_reads(ends: tuple[Channel, Channel]) -> None:
    worker, process = ends
    sender = threading.Thread(target=process.send, args=(LogEntry({"msg": "x" * 5_000_000}),))
    sender.start()
    assert len(worker.receive().record["msg"]) == 5_000_000
    sender.join(30)


def test_the_end_of_the_other_side_is_told_from_a_message(ends: tuple[Channel, Channel]) -> None:
    worker, process = ends
    process.send(Ready())
    process.close()
    assert isinstance(worker.receive(), Ready)
    assert worker.receive() is None
    with pytest.raises(OSError, match="Broken pipe"):
        worker.send(StartRun(JOB, clock=Measured(0.0, 0.0)))


def test_a_log_record_becomes_plain_json_without_its_secrets() -> None:
    sent: list[LogEntry] = []
    handler = ChannelHandler(sent.append, lambda: {"job_id": "7"})
    record = logging.makeLogRecord(
        {"name": "shop", "msg": "%s at %s", "args": ("\udcff", Secret("sesame")), "by": {1: Secret("sesame")}}
    )
    handler.emit(record)
    [entry] = sent
    assert entry.record["msg"] == "\\udcff at ***"
    assert (entry.record["job_id"], entry.record["by"]) == ("7", {"1": "***"})


def test_a_log_record_that_cannot_be_sent_any_more_is_dropped(ends: tuple[Channel, Channel]) -> None:
    worker, process = ends
    worker.close()
    ChannelHandler(process.send, dict).emit(logging.makeLogRecord({"msg": "too late"}))
