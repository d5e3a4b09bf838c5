"""A shop whose queues have been busy for some hours: what the browser tests and the screenshots show.

The storage is memory with a clock that this module sets: the hours pass in seconds.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from jobq_core import ErrorRecord
from jobq_core.ids import new_id
from jobq_core.memory import MemoryQueueStorage
from jobq_core.parents import with_parent
from jobq_core.records import Progress, WorkerInfo, WorkerStats
from jobq_core.states import Ending, JobState
from jobq_core.storage import (
    AuditEntry,
    Claim,
    ClaimedJob,
    JobFilter,
    LogLine,
    LogPart,
    NewJob,
    ProgressReport,
    QueueOptions,
    Settlement,
)

MINUTES: Final = 180
"""How long the shop has been open."""

TRACEBACK: Final = """Traceback (most recent call last):
  File "/srv/shop/images.py", line 41, in make_thumbnail
    image = Image.open(path)
            ^^^^^^^^^^^^^^^^
  File "/srv/shop/lib/pillow/Image.py", line 3498, in open
    raise UnidentifiedImageError(msg)
shop.images.UnidentifiedImageError: cannot identify image file '/srv/images/4711.png'
"""


class Clock:
    """A clock that goes on by itself from the moment that it was set to."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).timestamp() - MINUTES * 60
        self._live = False

    def __call__(self) -> float:
        return datetime.now(UTC).timestamp() if self._live else self.now

    def go_live(self) -> None:
        """Show the real time from now on."""
        self._live = True


class Shop:
    """Queues, workers, and hours of work."""

    def __init__(self, seed: int = 7) -> None:
        self.clock = Clock()
        self.storage = MemoryQueueStorage(clock=self.clock)
        self.random = random.Random(seed)
        self.workers = [
            self._worker("web1", ("mail", "reports"), 20),
            self._worker("web2", ("mail", "images"), 20),
            self._worker("render1", ("images",), 8),
        ]
        self.running: list[tuple[WorkerInfo, ClaimedJob, float]] = []
        self.job_of_interest: str = ""

    def _worker(self, name: str, queues: tuple[str, ...], concurrency: int) -> WorkerInfo:
        return WorkerInfo(
            id=new_id(),
            name=name,
            host=f"{name}.shop.example",
            pid=self.random.randrange(100, 30_000),
            queues=queues,
            kinds=("send_receipt", "send_reminder", "make_thumbnail", "monthly_report"),
            concurrency=concurrency,
            lost_after=3_600.0,
            versions={"python": "3.13.1", "jobq-core": "0.1.0", "jobq-worker": "0.1.0"},
        )

    async def open(self) -> MemoryQueueStorage:
        """Open the storage, and let the hours pass; return it."""
        await self.storage.open()
        for worker in self.workers:
            await self.storage.register(worker)
        for minute in range(MINUTES):
            for _ in range(4):
                self.clock.now += 15
                await self._beat()
                await self._settle()
                await self._arrivals(minute)
                await self._claim()
            await self.storage.promote()
            await self.storage.sample_depths()
        self.clock.go_live()
        await self._present()
        return self.storage

    async def _beat(self) -> None:
        for worker in self.workers:
            mine = sum(owner.id == worker.id for owner, *_ in self.running)
            done = self.random.randrange(9_000, 90_000)
            stats = WorkerStats(
                running=mine, completed=done, failed=done // 90, busy_seconds=done * 0.4, memory=180_000_000
            )
            self.storage.heartbeat(worker).beat(stats)

    async def _arrivals(self, minute: int) -> None:
        wave = 1 + (minute % 60 > 40) * 1.5
        jobs = [
            self._new("send_receipt", "mail", order_id=self.random.randrange(10**6))
            for _ in range(self._count(4 * wave))
        ]
        jobs += [
            self._new("make_thumbnail", "images", path=f"/srv/images/{self.random.randrange(9_999)}.png", width=256)
            for _ in range(self._count(2 * wave))
        ]
        if minute % 7 == 0:
            jobs.append(self._new("monthly_report", "reports", tenant=f"tenant-{minute % 9}", month=minute % 12 + 1))
        await self.storage.add(jobs)

    def _count(self, mean: float) -> int:
        return max(0, round(self.random.gauss(mean, mean / 3)))

    def _new(self, kind: str, queue: str, **arguments: Any) -> NewJob:
        tags = {"mail": ("receipt",), "images": ("gallery", "customer-7"), "reports": ("monthly",)}[queue]
        return NewJob(
            id=new_id(self.clock() - datetime.now(UTC).timestamp()),
            queue=queue,
            kind=kind,
            arguments=msgspec.json.encode(arguments),
            tags=tags,
            max_attempts=5,
            run_id="nightly" if queue == "reports" else None,
            priority=5 if queue == "reports" else 0,
        )

    async def _claim(self) -> None:
        for worker in self.workers:
            room = worker.concurrency - sum(owner.id == worker.id for owner, *_ in self.running)
            claim = Claim.of(*worker.queues, limit=min(room, 6))
            for job in (await self.storage.settle_and_claim(worker.id, (), claim)).claimed:
                seconds = {"mail": 0.4, "images": 9.0, "reports": 60.0}[job.queue]
                self.running.append((worker, job, self.clock.now + self.random.expovariate(1 / seconds)))

    async def _settle(self) -> None:
        over = [entry for entry in self.running if entry[2] <= self.clock.now]
        self.running = [entry for entry in self.running if entry[2] > self.clock.now]
        for worker, job, _ in over:
            await self.storage.settle_and_claim(worker.id, [self._settlement(job)])

    def _settlement(self, job: ClaimedJob) -> Settlement:
        share = self.random.random()
        number = self.random.randrange(10_000)
        if job.queue == "images" and share < 0.04:
            error = ErrorRecord(
                type="shop.images.UnidentifiedImageError",
                message=f"cannot identify image file '/srv/images/{number}.png'",
                traceback=TRACEBACK,
            )
            return Settlement(job.id, job.lease, Ending.FAIL, error=error)
        if job.queue == "mail" and share < 0.02:
            error = ErrorRecord(type="ConnectionRefusedError", message="smtp.shop.example:25 refused the connection")
            return Settlement(job.id, job.lease, Ending.RETRY if share < 0.012 else Ending.FAIL, error=error, when=30.0)
        if share > 0.995:
            return Settlement(job.id, job.lease, Ending.ABORT)
        return Settlement(job.id, job.lease, Ending.COMPLETE, result=msgspec.json.encode({"ok": True, "n": number}))

    async def _present(self) -> None:
        """Have something of everything now: waiting, running with progress, delayed, disabled, paused, unserved."""
        storage = self.storage
        await self._beat()
        await storage.add([self._new("send_receipt", "mail", order_id=number) for number in range(37)])
        late = [self._new("send_reminder", "mail", order_id=number) for number in range(6)]
        await storage.add([msgspec.structs.replace(job, run_at=3_600.0) for job in late])
        off = [self._new("make_thumbnail", "images", path=f"/srv/off/{number}.png") for number in range(3)]
        await storage.add(off)
        await storage.disable([job.id for job in off])
        lonely = self._new("send_receipt", "mail", order_id=1)
        await storage.add([msgspec.structs.replace(lonely, id=new_id(), queue="mial") for _ in range(4)])
        await self._interesting()
        await self._claim()
        for index, (worker, job, _) in enumerate(self.running):
            report = Progress(percent=float(index * 13 % 100), message=f"row {index * 83 % 640} of 640")
            await storage.progress(worker.id, [ProgressReport(id=job.id, lease=job.lease, progress=report)])
        await self._beat()
        await storage.set_queue("reports", QueueOptions(paused=True, actor="kai"))
        now = datetime.now(UTC) - timedelta(minutes=3)
        await storage.record_audit([AuditEntry(id=new_id(), at=now, actor="kai", action="pause", target="reports")])
        await storage.sample_depths()

    async def _interesting(self) -> None:
        """Have a job that another one added, that failed twice, and that runs again; each run logged something."""
        worker = self.workers[2]
        (album,) = (await self.storage.find(JobFilter(queue="images", states=[JobState.COMPLETED]), limit=1)).jobs
        job = msgspec.structs.replace(
            self._new("make_thumbnail", "images", path="/srv/images/4711.png", width=256, order=9007199254740993),
            priority=100,
            meta=with_parent(b'{"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}', album.id),
        )
        await self.storage.add([job])
        for _ in range(2):
            (claimed,) = (await self.storage.settle_and_claim(worker.id, (), Claim.of("images", limit=1))).claimed
            error = ErrorRecord(
                type="shop.images.UnidentifiedImageError",
                message="cannot identify image file '/srv/images/4711.png'",
                traceback=TRACEBACK,
            )
            await self._log(claimed, ("INFO", "opening /srv/images/4711.png"), ("ERROR", "not an image: 0 bytes"))
            settlement = Settlement(claimed.id, claimed.lease, Ending.RETRY, error=error, when=None)
            await self.storage.settle_and_claim(worker.id, [settlement])
        (claimed,) = (await self.storage.settle_and_claim(worker.id, (), Claim.of("images", limit=1))).claimed
        await self._log(claimed, ("INFO", "opening /srv/images/4711.png"), ("INFO", "4032 × 3024 pixels, 640 rows"))
        self.running.append((worker, claimed, self.clock() + 600))
        self.job_of_interest = str(job.id)

    async def _log(self, claimed: ClaimedJob, *lines: tuple[str, str]) -> None:
        """Keep lines that a run logged: the level and the message of each."""
        now = await self.storage.now()
        logged = tuple(LogLine(at=now, level=level, logger="shop.images", message=message) for level, message in lines)
        part = LogPart(job=claimed.id, lease=claimed.lease, attempt=claimed.attempt, part=0, lines=logged)
        await self.storage.write_logs([part])
