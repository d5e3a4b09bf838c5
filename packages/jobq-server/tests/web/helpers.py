"""Clients of an application by role, and jobs whose every text is a script."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from jobq_core import ErrorRecord, JobState
from jobq_core.ids import new_id
from jobq_core.memory import MemoryQueueStorage
from jobq_core.records import Progress, WorkerInfo
from jobq_core.states import Ending
from jobq_core.storage import Claim, ClaimedJob, NewJob, ProgressReport, Settlement
from jobq_server.web import Credentials, Role

TOKENS = {role: f"the-token-of-{role.value}" for role in Role}
PASSWORD = "correct horse battery staple"

Connect = Callable[..., httpx.AsyncClient]


def credentials() -> Credentials:
    """Return a token for each role, called after it, and the user kai, an admin."""
    return Credentials(
        tokens={token: (role.value, role) for role, token in TOKENS.items()}, users={"kai": (PASSWORD, Role.ADMIN)}
    )


async def until(check: Callable[[], Awaitable[Any]]) -> Any:
    """Return what the check answers, once that is true."""
    async with asyncio.timeout(10):
        while True:
            if found := await check():
                return found
            await asyncio.sleep(0)


def new_job(kind: str = "send", queue: str = "mail", arguments: bytes = b"{}", **options: Any) -> NewJob:
    return NewJob(id=new_id(), queue=queue, kind=kind, arguments=arguments, **options)


class Hand:
    """A worker that claims and settles by hand."""

    def __init__(self, storage: MemoryQueueStorage, *queues: str, name: str = "w1") -> None:
        self.storage = storage
        self.info = WorkerInfo(
            id=new_id(),
            name=name,
            host="web1",
            pid=7,
            queues=queues or ("mail",),
            kinds=("send",),
            concurrency=10,
            lost_after=30.0,
        )

    async def register(self) -> Hand:
        await self.storage.register(self.info)
        return self

    async def claim(self, limit: int = 1) -> list[ClaimedJob]:
        claim = Claim.of(*self.info.queues, limit=limit)
        return (await self.storage.settle_and_claim(self.info.id, (), claim)).claimed

    async def settle(self, job: ClaimedJob, ending: Ending = Ending.COMPLETE, **options: Any) -> JobState | None:
        settlement = Settlement(job.id, job.lease, ending, **options)
        return (await self.storage.settle_and_claim(self.info.id, [settlement])).settled[0]

    async def progress(self, job: ClaimedJob, progress: Progress) -> None:
        await self.storage.progress(self.info.id, [ProgressReport(id=job.id, lease=job.lease, progress=progress)])


def error(message: str = "it broke", type: str = "ValueError", traceback: str | None = None) -> ErrorRecord:
    return ErrorRecord(type=type, message=message, traceback=traceback)
