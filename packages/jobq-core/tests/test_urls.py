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


def test_the_scheme_of_a_url_selects_the_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_storage("memory://"), MemoryQueueStorage)
    monkeypatch.setenv("JOBQ_STORAGE", "memory://")
    assert isinstance(open_storage(), MemoryQueueStorage)


def test_a_missing_url_is_refused_with_both_ways_to_give_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOBQ_STORAGE", raising=False)
    with pytest.raises(ConfigurationError, match=r"sqlite:///jobs\.db, or set JOBQ_STORAGE"):
        open_storage()


@pytest.mark.parametrize("path", ["shop.db", "/var/lib/shop.db", "db.example/shop"])
def test_text_without_a_scheme_is_refused_with_an_example(path: str) -> None:
    with pytest.raises(ConfigurationError, match=f"'{path}' is not the URL of a storage; write sqlite:///"):
        open_storage(path)


def test_an_unknown_scheme_is_refused_with_the_installed_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"no installed storage opens redis://… \(installed: .*memory"):
        open_storage("redis://host")


def test_memory_storage_is_at_its_entry_point() -> None:
    (entry,) = entry_points(group=GROUP, name="memory")
    assert (entry.module, entry.attr) == OWN["memory"]


def test_opening_one_of_jobqs_storages_does_not_read_the_installed_distributions() -> None:
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
def test_a_refusal_does_not_repeat_a_possible_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_storage(url)
    assert "hidden" not in str(caught.value)


def test_the_case_of_a_scheme_does_not_matter() -> None:
    assert open_storage("MEMORY://").url == "memory://"


@pytest.mark.parametrize("storage", [None, 5, b"memory://", object()])
def test_a_value_that_is_neither_url_nor_storage_is_refused(storage: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"storage must be a URL, such as .*, or a QueueStorage"):
        as_storage(storage)


def test_a_storage_whose_driver_cannot_be_imported_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "no_driver_here.py").write_text("import a_driver_that_nobody_installed\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(OWN, "lame", ("no_driver_here", "Storage"))
    with pytest.raises(ConfigurationError, match="lame:// needs no_driver_here, which cannot be imported here"):
        open_storage("lame://x")


@pytest.mark.parametrize("url", ["a" * 100_000, "a" * 100_000 + "://b"], ids=["text", "scheme"])
def test_long_text_is_not_repeated_in_the_refusal(url: str) -> None:
    with pytest.raises(ConfigurationError, match="is not the URL of a storage") as refused:
        open_storage(url)
    assert len(str(refused.value)) < 300
