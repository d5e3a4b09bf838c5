"""What all fault tests share: the seed, the scale, a server that may be crashed, and the closing table of faults.

Run them by `pytest tests-integration/faults`, with `--seed N` to repeat a run, `--scale smallest` to try each promise
once, `--scale soak` for about an hour, `--scale N` for any length, and `--report FILE` to keep the figures as JSON
lines.
Where CI is set, and at the smallest scale, the seed is the same each time: a change fails there by its own fault, not
by the draw. Everywhere else the seed is drawn.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from jobq_storage_postgres.testing import ThrowawayPostgres

sys.path.insert(0, str(Path(__file__).parent))

import scaling

# A busy machine is slow, and that is no failure.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

FIXED_SEED = 1
FIGURES = ("tried", "added", "runs", "aborted", "lost", "doubled", "excused")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--seed", type=int, help="of all that is left to chance (default: drawn; fixed in CI)")
    group.addoption(
        "--scale",
        type=scaling.parse,
        default="faults",
        help="how much is tried: smallest, faults (default), soak, or a whole number",
    )
    group.addoption("--report", type=Path, metavar="FILE", help="append what was tried to FILE, as JSON lines")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # Drawn once, here: the processes of `-n` take it from their parent's options.
    if config.option.seed is None:
        fixed = config.option.scale == scaling.SMALLEST or os.environ.get("CI")
        config.option.seed = FIXED_SEED if fixed else random.SystemRandom().randrange(2**32)
    config.option.hypothesis_seed = config.option.seed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not {"children", "postgres"}.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("processes")


def pytest_report_header(config: pytest.Config) -> str:
    return f"faults: {_repeat(config)}"


def _repeat(config: pytest.Config) -> str:
    return f"--seed {config.option.seed} --scale {config.option.scale}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    if report.failed:
        report.sections.append(("repeat it", f"pytest {item.nodeid.split('[')[0]} {_repeat(item.config)}"))
    return report


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of all that this test leaves to chance."""
    return int(request.config.option.seed)


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> scaling.Scale:
    """How much this test tries."""
    return scaling.Scale(request.config.option.scale)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Say what a fault came to, for the closing table: `report("kill -9 of workers", tried=6, added=600, …)`.

    tried, added, runs, aborted, lost, doubled: counts. excused: processes that were late though nobody disturbed them,
    see `load.Verdict`. recovery: seconds of the longest one, None where nothing had to recover.
    Called twice for one fault, counts add up. Asserts nothing: call it before you do.
    """

    def note(
        fault: str,
        *,
        tried: int,
        added: int = 0,
        runs: int = 0,
        aborted: int = 0,
        lost: int = 0,
        doubled: int = 0,
        excused: int = 0,
        recovery: float | None = None,
    ) -> None:
        counts = dict(zip(FIGURES, (tried, added, runs, aborted, lost, doubled, excused), strict=True))
        # A property of the test, since that reaches the process that closes the session under `-n` too.
        request.node.user_properties.append(("fault", {"fault": fault, **counts, "recovery": recovery}))

    return note


@pytest.fixture
def cost(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Say what a herd cost, for a table of its own, and check it: `cost("200 start", 700, "transactions", most=…)`.

    made: how many of what was counted (`counted`), against `most`. per: of how many jobs, workers or processes.
    """

    def note(herd: str, made: int, counted: str, *, most: float, per: int) -> None:
        row = {"herd": herd, "of": per, "counted": counted, "made": made, "most": round(most)}
        request.node.user_properties.append(("cost", row))
        assert made <= most, f"{herd}: {made} {counted} of {per}, {round(most)} at most"

    return note


def _noted(terminalreporter: Any, name: str) -> list[dict[str, Any]]:
    ended = [r for reports in terminalreporter.stats.values() for r in reports if getattr(r, "when", "") == "teardown"]
    return [value for test in ended for kind, value in test.user_properties if kind == name]


def _append(config: pytest.Config, rows: Iterable[dict[str, Any]]) -> None:
    if config.option.report is not None:
        with config.option.report.open("a") as file:
            file.writelines(
                json.dumps({"seed": config.option.seed, "scale": config.option.scale, **row}) + "\n" for row in rows
            )


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    _summarize_costs(terminalreporter, config)
    _summarize_faults(terminalreporter, config)


def _summarize_costs(terminalreporter: Any, config: pytest.Config) -> None:
    rows = _noted(terminalreporter, "cost")
    if not rows:
        return
    _append(config, rows)
    terminalreporter.section("herds: what they cost the database")
    width = max(len(row["herd"]) for row in rows)
    terminalreporter.line(f"{'herd':{width}} {'of':>9} {'made':>9} {'at most':>9}  counted")
    for row in rows:
        figures = " ".join(f"{row[name]:>9,}" for name in ("of", "made", "most"))
        terminalreporter.line(f"{row['herd']:{width}} {figures}  {row['counted']}")


def _summarize_faults(terminalreporter: Any, config: pytest.Config) -> None:
    rows: dict[str, dict[str, Any]] = {}
    for row in _noted(terminalreporter, "fault"):
        known = rows.setdefault(row["fault"], {"fault": row["fault"], **dict.fromkeys(FIGURES, 0), "recovery": None})
        for name in FIGURES:
            known[name] += row[name]
        known["recovery"] = max(filter(None, (known["recovery"], row["recovery"])), default=None)
    if not rows:
        return
    _append(config, rows.values())
    terminalreporter.section("faults")
    width = max(len(fault) for fault in rows)
    heads = (*FIGURES, "recovery")
    terminalreporter.line(" ".join([f"{'fault':{width}}", *(f"{head:>9}" for head in heads)]))
    for row in rows.values():
        cells = [f"{row[name]:>9,}" for name in FIGURES]
        cells.append(f"{row['recovery']:>8.1f}s" if row["recovery"] is not None else f"{'–':>9}")
        terminalreporter.line(" ".join([f"{row['fault']:{width}}", *cells]))
    terminalreporter.line(_repeat(config))


@pytest.fixture
def postgres() -> Iterator[ThrowawayPostgres]:
    """A server of this test's own, which may be halted, crashed and started again; its tables are not made yet."""
    with ThrowawayPostgres(settings={"fsync": "on", "full_page_writes": "on", "deadlock_timeout": "200ms"}) as server:
        yield server


@pytest.fixture
def load_on(children: Any, tmp_path: Path) -> Callable[..., Any]:
    """Make a `load.Load` on a storage's URL; its processes end with the test."""
    from load import Load

    return lambda url, direct=None: Load(children, tmp_path, url, direct)
