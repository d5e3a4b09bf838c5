"""Shared by all fault tests: the seed, the scale, a server that a test may crash, and the final table of faults.

Run them with `pytest tests-integration/faults`. `--seed N` repeats a run, `--scale smallest` tries each promise once,
`--scale soak` takes about an hour, `--scale N` takes any length, and `--report FILE` stores the figures as JSON lines.
The seed is fixed if CI is set and at the smallest scale, so that only the change under test can make a test fail.
Otherwise the seed is random.
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

collect_ignore = [] if "JOBQ_SKEW_PYTHON" in os.environ else ["skew"]
"""The older commit's environment, which the nox session `skew` makes."""

# A busy machine is slow; that does not count as a failure.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

FIXED_SEED = 1
FIGURES = ("tried", "added", "runs", "aborted", "lost", "doubled", "excused")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--seed", type=int, help="seed of everything random (default: random; fixed in CI)")
    group.addoption(
        "--scale",
        type=scaling.parse,
        default="faults",
        help="how much to try: smallest, faults (default), soak, or an integer",
    )
    group.addoption("--report", type=Path, metavar="FILE", help="append the figures to FILE as JSON lines")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    # The seed is drawn once, here: the processes of `-n` take it from their parent's options.
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
    """The seed of everything random in this test."""
    return int(request.config.option.seed)


@pytest.fixture
def scale(request: pytest.FixtureRequest) -> scaling.Scale:
    """How many times this test tries each fault."""
    return scaling.Scale(request.config.option.scale)


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Add a fault's result to the final table: `report("kill -9 of workers", tried=6, added=600, …)`.

    tried, added, runs, aborted, lost, doubled: counts. excused: processes that were late although the test did not
    disturb them, see `load.Verdict`. recovery: seconds of the longest recovery, None if nothing had to recover.
    The counts of two calls for one fault add up. The fixture asserts nothing: call it before the assertions.
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
        # A property of the test also reaches the main process of `-n`, which prints the table.
        request.node.user_properties.append(("fault", {"fault": fault, **counts, "recovery": recovery}))

    return note


@pytest.fixture
def cost(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Check a herd's cost and add it to the table of herds: `cost("200 start", 700, "transactions", most=…)`.

    made: the count, at most `most`. counted: the unit of the count. per: the number of jobs, workers or processes.
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
    terminalreporter.section("herds: their cost for the database")
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
    """A server for this test alone, which it may halt, crash and restart; it has no tables yet."""
    with ThrowawayPostgres(settings={"fsync": "on", "full_page_writes": "on", "deadlock_timeout": "200ms"}) as server:
        yield server


@pytest.fixture
def load_on(children: Any, tmp_path: Path) -> Callable[..., Any]:
    """Return a function that makes a `load.Load` for a storage URL; its processes end with the test."""
    from load import Load

    return lambda url, direct=None: Load(children, tmp_path, url, direct)
