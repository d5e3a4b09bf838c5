"""Malformed storage URLs, and commands with any arguments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from fuzzing.values import texts
from fuzzing.verdicts import Refused, attempt, try_all
from hypothesis import strategies as st
from scaling import Scale

from jobq_core import open_storage
from jobq_core.commands import main

PASSWORD = "hidden-away"
VALID = [
    "memory://",
    "memory://shared",
    "sqlite:///jobs.db",
    "sqlite:////var/lib/jobs%20of%20mine.db",
    f"postgresql://user:{PASSWORD}@host:5432/database",
    f"postgresql://user:{PASSWORD}@[::1]/database?schema=other&pool_size=5&time_limit=3.5&prepared=no",
    f"postgres://user@host1:1,host2:2/database?password={PASSWORD}&target_session_attrs=read-write&sslmode=require",
    f"postgresql:///database?host=/run/postgresql&listen_dsn=postgresql://user:{PASSWORD}@other/database",
]
pieces = st.one_of(
    texts.filter(lambda text: len(text) < 1000),
    st.sampled_from(
        [":", "/", "//", "@", "?", "&", "=", "#", "%", "%zz", "%00", "%ff", "[", "]", ",", "..", "\n", "postgresql://",
         "sqlite:///", "?schema=", "&pool_size=nan", "&time_limit=inf", "&prepared=maybe", "&port=0", "&host=", "&x=y"]
    ),
)  # fmt: skip


@st.composite
def urls(draw: st.DrawFn) -> str:
    """Draw a URL, mostly a valid one with a few pieces inserted, removed or doubled."""
    if draw(st.integers(0, 9)) == 0:
        return draw(texts)
    url = draw(st.sampled_from(VALID))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(url)))
        end = min(len(url), start + draw(st.integers(0, 6)))
        url = url[:start] + draw(st.one_of(pieces, st.just(""), st.just(url[start:end] * 2))) + url[end:]
    return url


def test_a_url_opens_a_storage_or_fails_without_showing_its_password(
    seed: int, scale: Scale, report: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOBQ_STORAGE", raising=False)
    refused = 0

    def check(url: str) -> None:
        nonlocal refused
        made = attempt(lambda: open_storage(url), {""})
        if isinstance(made, Refused):
            refused += 1
            assert PASSWORD not in made.said, url
        else:
            # The text counts only if it is still a password and not part of another name.
            assert PASSWORD not in repr(made) or not url.startswith(f"postgresql://user:{PASSWORD}@"), url
            made.url.encode(errors="surrogateescape")

    tried = try_all(urls(), check, count=scale.times(1500, least=200), seed=seed)
    report("odd URLs of storages", tried=tried)
    assert 0 < refused < tried


words = st.one_of(
    st.sampled_from(
        ["--storage", "--sql", "--phase", "pre", "all", "--queue", "--name", "--concurrency", "--workers", "--help",
         "--producer", "--reader", "--lost-after", "--heartbeat-interval", "--stop-timeout", "nan", "-1", "-h",
         "0", "1e999", "no.such.module", "json", "", "-", "--", "=", "--storage=memory://",
         "sqlite:///no/such/folder/x.db", f"postgresql://user:{PASSWORD}@127.0.0.1:1/x?time_limit=0.5"]
    ),
    texts.filter(lambda text: len(text) < 1000),
)  # fmt: skip


def test_a_command_works_or_reports_the_problem(
    seed: int, scale: Scale, report: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOBQ_STORAGE", raising=False)
    runner = CliRunner()
    codes: set[int] = set()

    def check(given: tuple[str, list[str]]) -> None:
        command, arguments = given
        result = runner.invoke(main, [command, *arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        codes.add(result.exit_code)
        if result.exit_code:
            assert "Error: " in result.output, result.output
            assert PASSWORD not in result.output

    commands = st.sampled_from(["migrate", "worker", "server", "grant", "--help", "nothing"])
    tried = try_all(
        st.tuples(commands, st.lists(words, max_size=5)), check, count=scale.times(250, least=40), seed=seed
    )
    report("odd arguments of commands", tried=tried)
    assert {0, 2} <= codes
