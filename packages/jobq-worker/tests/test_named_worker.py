"""`jobq worker module:worker` and `jobq check module:worker`: the worker that a module has made."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from jobq_core import ConfigurationError
from jobq_core.storage import QueueStorage
from jobq_worker import JobQueueWorker
from jobq_worker.commands import check, worker
from jobq_worker.commands.named_worker import load_worker

from .probe import Probe

WORK = """
from collections.abc import AsyncIterator, Iterator
from jobq_core import job, provided
from jobq_worker import JobQueueWorker

class Pool: ...

@job(queue="mail")
async def send(to: str = "ann", *, pool: Pool = provided()) -> str:
    return f"{to} by {type(pool).__name__}"

worker = JobQueueWorker("memory://from-module", jobs=[send], name="from module", concurrency=3, lost_after=20)
notes = []

@worker.middleware
def note(job, context) -> Iterator[None]:
    notes.append((yield))

@worker.lifespan
async def opened() -> AsyncIterator[None]:
    notes.append("open")
    yield

@worker.provides
def pool() -> Pool:
    return Pool()

number = 7
bare = JobQueueWorker(jobs=[send])
"""


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOBQ_STORAGE", raising=False)
    (tmp_path / "named_work.py").write_text(WORK)
    before, path = set(sys.modules), list(sys.path)
    yield lambda: sys.modules["named_work"]
    sys.path[:] = path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[JobQueueWorker]:
    """Return the workers that the command runs; they do not run."""
    found: list[JobQueueWorker] = []

    async def run(self: JobQueueWorker) -> None:
        found.append(self)

    monkeypatch.setattr(JobQueueWorker, "run", run)
    monkeypatch.setattr("jobq_worker.commands.worker_command.configure_logging", lambda *args, **keywords: None)
    return found


def call(command: Any, *arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_it_keeps_the_options_of_the_module_unless_the_command_line_gives_others(
    runs: list[JobQueueWorker], work: Any
) -> None:
    assert call(worker, "named_work:worker", "--concurrency", "5").exit_code == 0
    [run] = runs
    assert run is work().worker
    assert (run.name, run.concurrency, run.queues) == ("from module", 5, ("mail",))
    assert run.storage.url.endswith("from-module")


def test_the_environment_and_pyproject_give_options_too(
    runs: list[JobQueueWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBQ_STORAGE", "memory://from-environment")
    Path("pyproject.toml").write_text("[tool.jobq]\nconcurrency = 9\n")
    assert call(worker, "named_work:worker").exit_code == 0
    [run] = runs
    assert run.concurrency == 9
    assert run.storage.url.endswith("from-environment")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["named_work:number"], "named_work:number must be a JobQueueWorker, not a int"),
        (["named_work:nothing"], "the module 'named_work' has no 'nothing'"),
        (["nowhere:worker"], "there is no module 'nowhere'"),
        (["named_work:worker", "named_work"], "MODULE:WORKER stands alone"),
        (["named_work"], "Missing option '--storage'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_run_is_refused(runs: list[JobQueueWorker], arguments: list[str], says: str) -> None:
    result = call(worker, *arguments)
    assert result.exit_code != 0
    assert says in result.output
    assert runs == []


def test_check_finds_a_missing_resource_and_opens_nothing(work: Any) -> None:
    assert call(check, "named_work:worker").output == "ok: found 1 job in named_work:worker: send\n"
    result = call(check, "named_work:bare")
    assert result.exit_code == 1
    assert result.output.startswith("job 'send': nothing provides Pool for its parameter 'pool'")
    assert call(check, "named_work:number").output == "named_work:number must be a JobQueueWorker, not a int\n"
    assert call(check, "named_work").output.startswith("job 'send': nothing provides Pool")
    assert work().notes == []


async def test_its_middleware_lifespan_and_resources_are_in_use(storage: QueueStorage, work: Any) -> None:
    from .kit import ending

    found = load_worker("named_work:worker")
    found.configure(storage)
    async with found:
        ended: Any = await ending(found, storage, work().send())
    assert ended.result_json == b'"ann by Pool"'
    assert work().notes == ["open", "ann by Pool"]


async def test_configure_checks_as_the_class_does(storage: Probe) -> None:
    found = load_worker("named_work:worker")
    with pytest.raises(ConfigurationError, match="concurrency"):
        found.configure(concurrency=-1)
    with pytest.raises(ConfigurationError, match="no option 'worker_count'"):
        found.configure(worker_count=3)
    with pytest.raises(ConfigurationError, match="the jobs of a worker are given when it is made"):
        found.configure(jobs=[])
    assert found.concurrency == 3
    found.configure(storage, name="other")
    async with found:
        with pytest.raises(ConfigurationError, match="an option must be supplied before the worker starts"):
            found.configure(concurrency=1)
