"""Results as Markdown: a table for each scenario, the comparison for the README, and the conditions of the runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reading import Outcome, Run

Column = tuple[str, Callable[[dict[str, Any]], str]]

COMPARED = {
    "drain": "drain no-op jobs, jobs/s",
    "add": "add one by one, jobs/s",
    "many": "add in bulk, jobs/s",
    "pick-up": "pick up a job, ms",
}
"""The scenarios of the comparison with rivals, and what its columns are called."""


def rewritten(page: Path, mark: str, text: str) -> str:
    """Return the page with `text` between its markers; raises ValueError if they are missing."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    before, found, rest = page.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{page} has no {begin} followed by {end}")
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"


def comparison(outcomes: Sequence[Outcome]) -> str:
    """Return a table of jobq and its rivals on the newest PostgreSQL: one row each, the fastest drain first."""
    storage = max((outcome.run.storage for outcome in outcomes if outcome.rivals), key=_version)
    chosen = {outcome.name: outcome for outcome in outcomes if outcome.run.storage == storage}
    compared = [chosen[name] for name in COMPARED]
    drained = [line for line in compared[0].summaries if line["contestant"] in ("jobq", *compared[0].rivals)]
    lines = [["", "jobs in", *COMPARED.values()], ["---", "---", *["--:"] * len(COMPARED)]]
    for line in sorted(drained, key=lambda line: -(line["median"] or 0)):
        name = line["contestant"]
        cells = [_number((outcome.of(name, "") or {}).get("median")) or "–" for outcome in compared]
        home = {"postgresql": "PostgreSQL", "redis": "Redis"}[line["storage"]]
        lines.append([f"**{name}**" if name == "jobq" else name, home, *cells])
    facts = compared[0].run.conditions
    rounds = min(line["rounds"] for line in drained)
    note = (
        f"Medians of at least {rounds} rounds: {storage}, {facts['cores']} cores, {facts['date'][:10]}. "
        "One worker process; every commit is flushed to disk."
    )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{note}"


def _version(storage: str) -> list[int]:
    return [int(part) for part in storage.split()[-1].split(".") if part.isdigit()]


def write(outcomes: Sequence[Outcome], plots: dict[tuple[str, str], str]) -> str:
    """Return the Markdown of all outcomes; `plots` holds the path of a picture for storage and scenario."""
    parts: list[str] = []
    for storage in dict.fromkeys(outcome.run.storage for outcome in outcomes):
        here = [outcome for outcome in outcomes if outcome.run.storage == storage]
        parts.append(f"### {storage}")
        for outcome in here:
            parts += [f"#### {outcome.title}", table(outcome)]
            picture = plots.get((storage, outcome.name))
            if picture:
                parts.append(f"![{outcome.title}, {storage}]({picture})")
        parts += ["#### Conditions", *conditions(here)]
    return "\n\n".join(parts)


def table(outcome: Outcome) -> str:
    """Return one scenario's table; columns that would be empty are left out."""
    floors = {variant: outcome.of("floor", variant) for variant in outcome.variants}
    less = any(line.get("less") for line in outcome.summaries)

    def share(line: dict[str, Any]) -> str:
        floor = floors[line["variant"]]
        if floor is None or not floor["median"] or not line["median"] or less:
            return ""
        return f"{line['median'] / floor['median']:.0%}"

    def latency(name: str) -> Callable[[dict[str, Any]], str]:
        return lambda line: _number(line.get("latency", {}).get(name))

    def plain(name: str) -> Callable[[dict[str, Any]], str]:
        return lambda line: _number(line.get(name))

    columns: list[Column] = [
        ("", lambda line: line["contestant"]),
        ("variant", lambda line: line["variant"]),
        (outcome.unit, lambda line: _number(line["median"]) or "–"),
        ("min–max", _spread),
        ("of the floor", share),
        ("p50 ms", latency("p50")),
        ("p95 ms", latency("p95")),
        ("p99 ms", latency("p99")),
        ("worker µs/job", plain("worker_cpu")),
        ("client µs/job", plain("client_cpu")),
        ("server µs/job", plain("server_cpu")),
        ("commits/job", plain("commits")),
        ("WAL B/job", plain("wal")),
        ("dead rows", plain("dead_rows")),
        *_extra_columns(outcome),
        ("", lambda line: f"did not finish: {line['did_not_finish']}" if "did_not_finish" in line else ""),
    ]
    rows = [[cell(line) for _, cell in columns] for line in outcome.summaries]
    used = [n for n in range(len(columns)) if n == 0 or any(row[n] for row in rows)]
    lines = [[columns[n][0] for n in used], ["---" if n < 2 else "--:" for n in used]]
    lines += [[row[n] for n in used] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


EXTRAS = {
    "transactions_per_second": "transactions/s",
    "server_percent": "server, % of a core",
    "peak_mb": "peak MB",
    "added_per_second": "added/s",
    "connections": "connections",
    "connection_mb": "MB/connection",
    "bytes_kept": "bytes kept/job",
    "grew": "p99, last fifth / first",
}


def _extra_columns(outcome: Outcome) -> list[Column]:
    return [(title, lambda line, name=name: _number(line.get("more", {}).get(name))) for name, title in EXTRAS.items()]


def _spread(line: dict[str, Any]) -> str:
    return "" if line["median"] is None else f"{_number(line['min'])}–{_number(line['max'])}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def conditions(outcomes: Sequence[Outcome]) -> list[str]:
    """Return paragraphs on the runs: the machine and settings of each, then the contestants of all."""
    runs = list({id(outcome.run): outcome.run for outcome in outcomes}.values())
    machines: dict[str, list[str]] = {}
    for run in runs:
        machines.setdefault(_machine(run), []).extend(outcome.name for outcome in outcomes if outcome.run is run)
    text = [f"**{', '.join(names)}**: {machine}" for machine, names in machines.items()]
    scenarios = {id(run): [outcome.name for outcome in outcomes if outcome.run is run] for run in runs}
    return [part for part in (*text, "\n".join([*_players(runs, scenarios), *_absent(runs)])) if part]


def _machine(run: Run) -> str:
    facts = run.conditions
    storages = "; ".join(
        ", ".join(
            [f"{name} {value}" for name, value in about.items() if name != "settings"]
            + [f"`{name}={value}`" for name, value in about.get("settings", {}).items()]
        )
        or kind
        for kind, about in facts["storages"].items()
    )
    return (
        f"{facts['date'][:10]}, jobq at {facts['revision']}, scale {facts['scale']}, Python {facts['python']}, "
        f"{facts['cores']} cores ({facts['machine']}, {facts['system']}); {storages}."
    )


def _players(runs: Sequence[Run], scenarios: dict[int, list[str]]) -> list[str]:
    """Return a line for each contestant: its versions, its caveats, and the settings that were chosen for scenarios."""
    lines: list[str] = []
    for name in dict.fromkeys(name for run in runs for name in run.contestants):
        about = [run.contestants[name] for run in runs if name in run.contestants]
        versions = {f"{package} {version}" for one in about for package, version in one["versions"].items()}
        caveats = dict.fromkeys(sentence.rstrip(".") for one in about for sentence in one.get("caveats", ()))
        chosen = dict.fromkeys(
            f"{'/'.join(scenarios[id(run)])} with {_settings(choice['chosen'])}, best of {len(choice['tried'])} tried"
            for run in runs
            for choice in run.choices
            if choice["contestant"] == name
        )
        said = "; ".join([*caveats, *chosen])
        in_brackets = f" ({', '.join(sorted(versions))})" if versions else ""
        lines.append(f"- {name}{in_brackets}{': ' if said else ''}{said}.")
    return lines


def _settings(settings: dict[str, Any]) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in settings.items()) or "its defaults"


def _absent(runs: Sequence[Run]) -> list[str]:
    reasons = {name: reason for run in runs for name, reason in run.absent.items()}
    return [f"- {name} could not take part: {reason.splitlines()[-1]}" for name, reason in reasons.items()]
