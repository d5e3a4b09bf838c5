"""`jobq check`: each problem in one line, and nothing opened."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from jobq_core.memory import MemoryQueueStorage
from jobq_worker.commands import check

HEAD = "from jobq_core import Job, job\n"
SEND = HEAD + '@job(queue="mail")\nasync def send(order: int) -> str: ...\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOBQ_STORAGE", raising=False)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def run(*arguments: str, **files: str) -> tuple[int, list[str]]:
    for name, text in files.items():
        Path(f"{name}.py").write_text(text)
    result = CliRunner().invoke(check, arguments)
    return result.exit_code, result.output.splitlines()


def test_without_problems_it_names_the_jobs() -> None:
    assert run("ok_jobs", ok_jobs=SEND) == (0, ["ok: found 1 job in ok_jobs: send"])


def test_it_reads_the_configuration(folder: Path) -> None:
    (folder / "pyproject.toml").write_text('[tool.jobq]\nmodules = ["conf_jobs"]\nqueues = ["mail"]\n')
    assert run(conf_jobs=SEND) == (0, ["ok: found 1 job in conf_jobs: send"])


def test_it_reports_every_problem_in_one_line_each(folder: Path) -> None:
    (folder / "pyproject.toml").write_text("[tool.jobq]\ncolor = 3\nconcurrency = 'x'\n")
    code, lines = run(
        "nowhere",
        "bad_jobs",
        "one_jobs",
        "two_jobs",
        *("--queue", "mial", "--lost-after", "15", "--storage", "nosql://me:hidden-away@db"),
        bad_jobs="raise ValueError('two\\nlines')\n",
        one_jobs=SEND,
        two_jobs=SEND + '@job(queue="mail", executor="async")\ndef resize() -> None: ...\n',
    )
    assert code == 1
    assert [line[:40] for line in lines] == [
        "pyproject.toml, [tool.jobq]: unknown key",
        "pyproject.toml, [tool.jobq]: concurrency",
        "there is no module 'nowhere', neither in",
        "the module 'bad_jobs' failed to import (",
        "module two_jobs: two jobs are called 'se",
        "lost_after (15.0 s) must be at least twi",
        "job 'resize' is not a coroutine function",
        "queue 'mial': the jobs declare 'mail'; c",
        "no installed storage opens nosql://… (in",
    ]
    assert "hidden-away" not in "".join(lines)


def test_a_type_without_a_json_form_is_a_problem() -> None:
    code, lines = run("type_jobs", type_jobs=HEAD + "@job()\ndef f(x: 'Missing') -> None: ...\n")
    assert code == 1
    assert len(lines) >= 1
    assert "type_jobs" in lines[0]
    assert "Missing" in lines[0]


def test_jobs_that_all_lack_a_handler_are_a_problem() -> None:
    assert run("bare_jobs", bare_jobs=HEAD + "@job()\nclass Bare(Job[str]):\n    path: str\n") == (
        1,
        ["no job has a handler: supply one with @worker.handles(…) for Bare"],
    )


def test_without_a_module_it_says_how_to_name_one() -> None:
    assert run() == (1, ["no module to check: name one, such as `jobq check shop.jobs`, or set the key modules"])


def test_it_connects_only_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    open_memory = MemoryQueueStorage.open

    async def record(self: MemoryQueueStorage) -> None:
        opened.append(self.url)
        await open_memory(self)

    monkeypatch.setattr(MemoryQueueStorage, "open", record)
    assert run("ok_jobs", "--storage", "memory://", ok_jobs=SEND)[0] == 0
    assert opened == []
    assert run("ok_jobs", "--storage", "memory://", "--connect")[0] == 0
    assert opened == ["memory://"]
    assert run("ok_jobs", "--connect") == (
        1,
        ["no storage given: pass a URL such as sqlite:///jobs.db, or set JOBQ_STORAGE"],
    )
