"""Staged incidents, which an operator resolves by the runbook: each command here is in the section of its alert."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from jobq_client import JobQueueClient
from jobq_core import JobContext, JobState, JobTimeoutError, WorkerInfo, WorkerStopped, job, open_storage
from jobq_core.commands import main
from jobq_core.ids import new_id
from jobq_core.storage import Claim
from jobq_worker import JobQueueWorker

RUNBOOK = Path(__file__).parents[1] / "docs" / "operations" / "runbook.md"
RULES = Path(__file__).parents[1] / "examples" / "deploy" / "prometheus" / "rules.yml"


def sections() -> dict[str, str]:
    """Return the sections of the runbook by their headings, each in one line."""
    parts = re.split(r"^## (.*)$", RUNBOOK.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {heading: " ".join(text.split()) for heading, text in zip(parts[1::2], parts[2::2], strict=True)}


class Operator:
    """Types the commands of one section of the runbook, at the storage of this URL."""

    def __init__(self, url: str, alert: str) -> None:
        self._url = url
        self._section = sections()[alert] + sections()["First look"]

    async def types(self, command: str, *more: str, id: str | None = None, code: int = 0) -> str:
        """Type a command of the section, with an id in the place of ID, and return what it prints."""
        assert command in self._section, f"the runbook does not say {command!r}"
        words = [id if word == "ID" and id else word for word in command.split()[1:]]
        result = await asyncio.to_thread(
            CliRunner().invoke, main, [*words, *more], env={"JOBQ_STORAGE": self._url, "COLUMNS": "200"}
        )
        assert result.exit_code == code, (command, result.output)
        return result.output


class Shop:
    """The jobs of the incidents, and what the tests change about them."""

    def __init__(self) -> None:
        self.mail_server_is_down = False
        self.released = threading.Event()
        self.busy = asyncio.Event()
        shop = self

        @job(queue="mail", max_attempts=1)
        async def send_receipt(order_id: int) -> int:
            if shop.mail_server_is_down:
                raise ConnectionError(f"order {order_id}: mail.example.org does not answer")
            return order_id

        @job(queue="mail", max_attempts=1)
        async def held() -> None:
            shop.busy.set()
            await asyncio.to_thread(shop.released.wait, 20)

        @job(queue="mail", max_attempts=1, timeout=0.05)
        def hangs(context: JobContext) -> None:
            wait_for_an_answer(shop.released)

        self.send_receipt, self.held, self.hangs = send_receipt, held, hangs


def wait_for_an_answer(answer: threading.Event) -> None:
    """Wait as a call without a timeout does."""
    answer.wait(20)


@pytest.fixture
async def shop() -> Any:
    made = Shop()
    yield made
    made.released.set()


@pytest.fixture
async def url(sqlite_url: str) -> str:
    storage = open_storage(sqlite_url)
    await storage.migrate()
    await storage.close()
    return sqlite_url


def till(url: str, *jobs: Any, **options: Any) -> JobQueueWorker:
    """Return the worker of the runbook's examples."""
    return JobQueueWorker(url, jobs=list(jobs), name="till-1", heartbeat_interval=0.05, lost_after=20, **options)


async def until(check: Callable[[], Any]) -> Any:
    """Wait until a look at the storage finds what it looks for."""
    while not (found := await check()):  # noqa: ASYNC110  (the heartbeat of another event loop)
        await asyncio.sleep(0.01)
    return found


def test_each_alert_has_a_section() -> None:
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"][0]["rules"]
    assert [heading for heading in sections() if heading.startswith("Jobq")] == [rule["alert"] for rule in rules]


async def test_a_misspelled_queue_is_found_and_its_jobs_are_moved(url: str, shop: Shop) -> None:
    operator = Operator(url, "JobqNoWorkers")
    async with JobQueueClient(url) as client, till(url, shop.send_receipt):
        handle = await client.add(shop.send_receipt(7), queue="mial")
        said = await operator.types("jobq doctor", code=4)
        assert "no live worker serves queue 'mial', where 1 job waits; a worker serves 'mail'" in said
        assert "till-1" in await operator.types("jobq workers list")
        await operator.types("jobq move --queue mial --to mail", "--yes")
        assert await handle.result(timeout=20) == 7


async def test_a_paused_queue_is_resumed_when_it_is_known_who_paused_it(url: str, shop: Shop) -> None:
    operator = Operator(url, "JobqQueuePausedLong")
    async with JobQueueClient(url) as client, till(url, shop.send_receipt):
        await operator.types("jobq pause mail --actor kai")
        handle = await client.add(shop.send_receipt(7))
        assert re.search(r"kai +pause +mail", await operator.types("jobq audit --target mail"))
        said = await Operator(url, "JobqQueueStuck").types("jobq why ID", id=str(handle.id))
        assert "queue 'mail' was paused by kai" in said
        assert "kai" in said
        await operator.types("jobq resume mail")
        assert await handle.result(timeout=20) == 7


async def test_a_job_that_waits_behind_others_goes_first(url: str, shop: Shop) -> None:
    operator = Operator(url, "JobqQueueStuck")
    async with JobQueueClient(url) as client, till(url, shop.send_receipt, shop.held, concurrency=1):
        await client.add(shop.held())
        await shop.busy.wait()
        await client.add_many([shop.held() for _ in range(5)])
        handle = await client.add(shop.send_receipt(7))
        said = await operator.types("jobq why ID", id=str(handle.id))
        assert "slot" in said or "ahead" in said
        await operator.types("jobq priority ID --to 100", id=str(handle.id))
        assert "1" in await Operator(url, "JobqQueueStuck").types("jobq why ID", id=str(handle.id))
        shop.released.set()
        assert await handle.result(timeout=20) == 7


async def test_a_flood_of_jobs_that_nobody_wants_is_aborted(url: str, shop: Shop) -> None:
    operator = Operator(url, "JobqBacklogGrowing")
    async with JobQueueClient(url) as client:
        await client.add_many([shop.send_receipt(n) for n in range(600)], tags=["import"])
        handle = await client.add(shop.send_receipt(7))
        listed = await operator.types("jobq jobs --queue mail --since 1h --columns kind,tags,run,added")
        assert listed.count("import") == 49
        assert "600" in await operator.types("jobq abort --queue mail --tag import --dry-run")
        await operator.types("jobq abort --queue mail --tag import", "--yes")
        async with till(url, shop.send_receipt):
            assert await handle.result(timeout=20) == 7
        assert (await client.counts())[JobState.ABORTED] == 0
        assert await client.size(queue="mail", state=JobState.ABORTED) == 600


async def test_failed_jobs_are_put_back_when_the_cause_is_gone(url: str, shop: Shop) -> None:
    operator = Operator(url, "JobqFailureRateHigh")
    shop.mail_server_is_down = True
    async with JobQueueClient(url) as client, till(url, shop.send_receipt):
        handles = await client.add_many([shop.send_receipt(n) for n in range(12)])
        for handle in handles:
            with pytest.raises(ConnectionError):
                await handle.result(timeout=20)
        groups = await operator.types("jobq failed --queue mail")
        assert groups.count("ConnectionError") == 1
        assert "mail.example.org does not answer" in groups
        assert "Traceback" in await operator.types("jobq show ID", id=str(handles[0].id))
        shop.mail_server_is_down = False
        await operator.types("jobq retry --kind send_receipt --state failed", "--yes")
        assert [await handle.result(timeout=20) for handle in handles] == list(range(12))


async def test_the_jobs_of_a_lost_worker_run_as_soon_as_there_is_another(url: str, shop: Shop) -> None:
    operator = Operator(url, "JobqWorkerLost")
    lost = WorkerInfo(
        id=new_id(), name="till-0", host="gone", pid=1, queues=("mail",), kinds=("send_receipt",), concurrency=1,
        lost_after=0.05,
    )  # fmt: skip
    async with JobQueueClient(url) as client:
        handle = await client.add(shop.send_receipt(7), max_attempts=2)
        await client.storage.register(lost)
        await client.storage.settle_and_claim(lost.id, [], Claim.of("mail", limit=1))
        assert "till-0" in await operator.types("jobq workers list")
        async with till(url, shop.send_receipt):
            assert await handle.result(timeout=20) == 7
        shown = await Operator(url, "JobqFailureRateHigh").types("jobq show ID", id=str(handle.id))
        assert "WorkerLostError" in shown


class Machine:
    """A worker on an event loop and a thread of its own, so that it can be blocked."""

    def __init__(self, worker: JobQueueWorker) -> None:
        self._worker = worker
        self._started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),), daemon=True)

    async def _run(self) -> None:
        self._ended = asyncio.Event()
        self._worker.once(WorkerStopped, lambda _: self._ended.set())
        await self._worker.start()
        self._started.set()
        await self._ended.wait()

    async def __aenter__(self) -> None:
        self._thread.start()
        await asyncio.to_thread(self._started.wait, 20)

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            return  # the test has failed: nothing has stopped the worker
        await asyncio.to_thread(self._thread.join, 20)
        assert not self._thread.is_alive()


async def test_a_blocked_event_loop_shows_its_line_and_is_drained(url: str, shop: Shop) -> None:
    operator = Operator(url, "JobqLoopBlocked")
    blocked = threading.Event()

    @job(queue="mail", max_attempts=1)
    async def computes() -> None:
        blocked.set()
        wait_for_an_answer(shop.released)

    async with JobQueueClient(url) as client, Machine(till(url, computes, shop.send_receipt)):
        handle = await client.add(computes())
        await asyncio.to_thread(blocked.wait, 20)
        assert "wait_for_an_answer" in await operator.types("jobq workers stack ID", id=str(handle.id))
        shop.released.set()
        await handle.result(timeout=20)
        await operator.types("jobq workers drain till-1", "--yes")
    assert "till-1" not in await operator.types("jobq workers list")


async def test_a_hung_handler_shows_its_line_and_its_worker_is_drained(url: str, shop: Shop) -> None:
    operator = Operator(url, "JobqHandlersHung")
    worker = till(url, shop.hangs)
    async with JobQueueClient(url) as client, Machine(worker):
        handle = await client.add(shop.hangs())
        with pytest.raises(JobTimeoutError):
            await handle.result(timeout=20)
        assert (await until(lambda: hung(client))).info.name == "till-1"
        said = await operator.types("jobq doctor", code=4)
        assert "worker 'till-1' has hung handlers, which run past their time limit: 1" in said
        assert "wait_for_an_answer" in await operator.types("jobq workers stack --worker till-1")
        shop.released.set()
        await operator.types("jobq workers drain till-1", "--yes")


async def hung(client: JobQueueClient) -> Any:
    return next((record for record in await client.storage.workers() if record.stats.hung), None)


async def test_jobs_of_an_unknown_kind_run_when_a_worker_that_knows_it_is_deployed(url: str, shop: Shop) -> None:
    operator = Operator(url, "JobqUnknownKinds")
    async with JobQueueClient(url) as client:
        handle = await client.add(shop.send_receipt(7))
        async with till(url, shop.held, queues=["mail"]):
            await until(lambda: client.size(queue="mail", state=JobState.BLOCKED))
            listed = await operator.types("jobq jobs --state blocked --columns id,kind,queue,reason,added")
            assert "unknown kind" in listed
            assert "that knows the kind 'send_receipt'" in await operator.types("jobq doctor", code=4)
        async with till(url, shop.send_receipt):
            assert await handle.result(timeout=20) == 7


async def test_an_unreachable_database_is_named(shop: Shop) -> None:
    operator = Operator("postgresql://127.0.0.1:1/shop?time_limit=1", "JobqStorageUnreachable")
    assert re.search(r"storage: .*127\.0\.0\.1", await operator.types("jobq health", code=4))
