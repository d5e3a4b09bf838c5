"""Results as Markdown: a table for each scenario, and the conditions that the figures depend on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from reading import Outcome, Run

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
Column = tuple[str, Callable[[dict[str, Any]], str]]


def rewrite(page: Path, text: str) -> None:
    """Put text between the markers of a page; raises ValueError if they are not there."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN} with {END} behind it")
    page.write_text(f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}")


def write(outcomes: Sequence[Outcome], plots: dict[tuple[str, str], str]) -> str:
    """Return the Markdown of all outcomes; `plots` holds the path of a picture for place and scenario."""
    parts: list[str] = []
    for place in dict.fromkeys(outcome.run.place for outcome in outcomes):
        here = [outcome for outcome in outcomes if outcome.run.place == place]
        parts.append(f"### {place}")
        for outcome in here:
            parts += [f"#### {outcome.title}", table(outcome)]
            picture = plots.get((place, outcome.name))
            if picture:
                parts.append(f"![{outcome.title}, {place}]({picture})")
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
    """Return paragraphs on what the figures depend on, one or two for each run."""
    runs = list({id(outcome.run): outcome.run for outcome in outcomes}.values())
    text: list[str] = []
    for run in runs:
        names = ", ".join(outcome.name for outcome in outcomes if outcome.run is run)
        text += [f"**{names}**: {_machine(run)}", "\n".join([*_players(run), *_absent(run)])]
    return [part for part in text if part]


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


def _players(run: Run) -> list[str]:
    lines: list[str] = []
    for name, about in run.contestants.items():
        versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
        chosen = [
            f"{choice['verb']} with {_settings(choice['chosen'])}, the best of {len(choice['tried'])} tried"
            for choice in run.choices
            if choice["contestant"] == name
        ]
        said = [*chosen, *(sentence.rstrip(".") for sentence in about.get("caveats", ()))]
        lines.append(f"- {name}{f' ({versions})' if versions else ''}{': ' if said else ''}{'; '.join(said)}.")
    return lines


def _settings(settings: dict[str, Any]) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in settings.items()) or "its defaults"


def _absent(run: Run) -> list[str]:
    return [f"- {name} could not take part: {reason.splitlines()[-1]}" for name, reason in run.absent.items()]
