from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from jobq_core import ConfigurationError, open_storage
from jobq_core.memory import MemoryQueueStorage
from jobq_core.urls import GROUP, OWN, as_storage


def test_the_scheme_says_which_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_storage("memory://"), MemoryQueueStorage)
    monkeypatch.setenv("JOBQ_STORAGE", "memory://")
    assert isinstance(open_storage(), MemoryQueueStorage)


def test_no_storage_at_all_is_refused_with_both_ways_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBQ_STORAGE", raising=False)
    with pytest.raises(ConfigurationError, match=r"sqlite:///jobs\.db, or set JOBQ_STORAGE"):
        open_storage()


@pytest.mark.parametrize("path", ["shop.db", "/var/lib/shop.db", "db.example/shop"])
def test_what_is_no_url_is_refused_with_what_one_looks_like(path: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{path}' is not the URL of a storage; write sqlite:///"):
        open_storage(path)


def test_a_scheme_that_nothing_installed_opens_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"no installed storage opens redis://… \(installed: .*memory"):
        open_storage("redis://host")


def test_the_memory_storage_is_where_its_entry_point_says() -> None:
    (entry,) = entry_points(group=GROUP, name="memory")
    assert (entry.module, entry.attr) == OWN["memory"]


def test_opening_a_storage_of_jobqs_own_does_not_read_what_is_installed() -> None:
    script = "import sys, jobq_core; jobq_core.open_storage('memory://'); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "jobq_core.memory" in modules
    assert "importlib.metadata" not in modules


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:/u:hidden@host/db",
        "host=db password=hidden",
        "u:hidden@host/db",
        "nothing://u:hidden@host/db",
        "memory://u:hidden@host",
        "memory://x?password=hidden",
        "no scheme://u:hidden@host",
    ],
)
def test_what_may_be_a_password_is_not_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_storage(url)
    assert "hidden" not in str(caught.value)


def test_the_case_of_a_scheme_does_not_matter() -> None:
    assert open_storage("MEMORY://").url == "memory://"


@pytest.mark.parametrize("storage", [None, 5, b"memory://", object()])
def test_what_is_neither_a_url_nor_a_storage_is_refused(storage: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"storage must be a URL, such as .*, or a QueueStorage"):
        as_storage(storage)


def test_a_storage_whose_driver_cannot_be_imported_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "no_driver_here.py").write_text("import a_driver_that_nobody_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(OWN, "lame", ("no_driver_here", "Storage"))
    with pytest.raises(ConfigurationError, match="lame:// needs no_driver_here, which cannot be imported here"):
        open_storage("lame://x")


@pytest.mark.parametrize("url", ["a" * 100_000, "a" * 100_000 + "://b"], ids=["text", "scheme"])
def test_a_long_text_that_is_no_url_is_refused_in_few_words(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is not the URL of a storage") as refused:
        open_storage(url)
    assert len(str(refused.value)) < 300
