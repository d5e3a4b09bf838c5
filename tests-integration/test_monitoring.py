"""The dashboard and the alert rules name metrics that exist, and the rules alert when they must.

promtool, where it is installed, checks and tests the rules, and reads the queries of the dashboard.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from jobq_core import job
from jobq_core.adding import new_job
from jobq_core.ids import new_id
from jobq_core.memory import MemoryQueueStorage
from jobq_worker import JobQueueWorker
from jobq_worker.metrics import collector

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "examples" / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yml"
RULE_TESTS = DEPLOY / "prometheus" / "rules_test.yml"
DASHBOARD = DEPLOY / "grafana" / "jobq.json"
RUNBOOK = ROOT / "docs" / "operations" / "runbook.md"
GIVEN = {"storage", "instance", "le"}
"""Labels of the targets, and of buckets."""
VARIABLES = {"$__rate_interval": "5m", "$storage": ".*", "$queue": ".*"}


@job()
async def quick() -> None: ...


async def collect() -> dict[str, set[str]]:
    """Return the labels of each sample of a worker that has run jobs, could not take one, and leads."""
    async with MemoryQueueStorage() as storage:
        storage.oldest_transaction = _an_age  # type: ignore[method-assign]
        type(storage).connections = {"busy": 1}  # type: ignore[method-assign, assignment]
        try:
            async with JobQueueWorker(storage, jobs=[quick]) as worker:
                source = collector(worker)
                strange = new_job(new_id(), quick(), "default", {})
                await storage.add([new_job(new_id(), quick(), "default", {}), _of_kind(strange, "strange")])
                while not (worker.health().leads and worker.health().refused_kinds and worker.exchanges.runs):  # noqa: ASYNC110
                    await asyncio.sleep(0.001)  # nothing announces this
                families = await asyncio.to_thread(lambda: [*source.collect(), *REGISTRY.collect()])
        finally:
            del type(storage).connections
    found: dict[str, set[str]] = {}
    for sample in (sample for family in families for sample in family.samples):
        found.setdefault(sample.name, set()).update(sample.labels)
    return found


async def _an_age() -> float:
    return 1.0


def _of_kind(made: Any, kind: str) -> Any:
    from msgspec.structs import replace

    return replace(made, kind=kind)


@pytest.fixture(scope="module")
def samples() -> dict[str, set[str]]:
    return asyncio.run(collect())


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    """Return the queries of the dashboard, with values in the place of its variables."""
    found = [target["expr"] for panel in panels() for target in panel["targets"]]
    for variable, value in VARIABLES.items():
        found = [query.replace(variable, value) for query in found]
    return found


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def selectors(query: str) -> Iterator[tuple[str, set[str]]]:
    """Yield the metrics that a query names, with the labels that it selects by."""
    for name, labels in re.findall(r"\b((?:jobq|process)_[a-z_]+)(?:\{([^}]*)\})?", query):
        yield name, set(re.findall(r"(\w+)\s*=?[=~!]", labels))


@pytest.mark.parametrize("source", ["rules", "dashboard", "tests of the rules"])
def test_every_metric_and_label_that_a_file_names_exists(source: str, samples: dict[str, set[str]]) -> None:
    tests = yaml.safe_load(RULE_TESTS.read_text())["tests"]
    texts = {
        "rules": [rule["expr"] for rule in rules()],
        "dashboard": queries(),
        "tests of the rules": [series["series"] for test in tests for series in test["input_series"]],
    }[source]
    found = [selector for text in texts for selector in selectors(text)]
    assert len(found) >= 12
    for name, labels in found:
        assert name in samples, f"no metric is called {name}"
        assert labels <= samples[name] | GIVEN, f"{name} has no label {labels - samples[name]}"


def test_the_dashboard_shows_every_metric(samples: dict[str, set[str]]) -> None:
    shown = {name for query in queries() for name, _ in selectors(query)}
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in samples if name.startswith("jobq_")}
    assert families <= {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}


def test_the_panels_of_the_dashboard_have_places_of_their_own() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
                assert x < 24
    ids = [panel["id"] for panel in json.loads(DASHBOARD.read_text())["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_runbook_has_a_section_for_each_alert() -> None:
    sections = set(re.findall(r"^## (Jobq\w+)$", RUNBOOK.read_text(), re.MULTILINE))
    assert sections == {rule["alert"] for rule in rules()}
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"docs/operations/runbook.md#{rule['alert'].lower()}"


def test_each_alert_is_tested_both_ways() -> None:
    checks = [check for test in yaml.safe_load(RULE_TESTS.read_text())["tests"] for check in test["alert_rule_test"]]
    for rule in rules():
        fires = [bool(check.get("exp_alerts")) for check in checks if check["alertname"] == rule["alert"]]
        assert {True, False} <= set(fires), rule["alert"]


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: the package prometheus)")
    return found


def test_promtool_accepts_the_rules_and_their_tests_pass(promtool: str) -> None:
    for words in (["check", "rules", RULES.name], ["test", "rules", RULE_TESTS.name]):
        ran = subprocess.run([promtool, *words], cwd=RULES.parent, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_promtool_reads_each_query_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    recorded = [{"record": f"panel:{number}", "expr": query} for number, query in enumerate(queries())]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    words = [promtool, "check", "rules", "--lint=none", "queries.yml"]
    ran = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


JOBS = """
from jobq_core import job

@job()
async def quick() -> None: ...
"""


def test_a_worker_process_is_probed_watched_and_drained(tmp_path: Path) -> None:
    """`jobq worker`, as a service manager and an operator meet it."""
    (tmp_path / "shop_jobs.py").write_text(JOBS)
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    address = str(tmp_path / "notify")
    jobq = [str(Path(sys.executable).with_name("jobq"))]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*jobq, *words], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(60)
        words = ["worker", "shop_jobs", "--storage", url, "--name", "till-1", "--metrics-port", "0"]
        environment = {"PATH": "/usr/bin:/bin", "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "60000000"}
        with subprocess.Popen(
            [*jobq, *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=environment
        ) as worker:
            try:
                assert worker.stderr is not None
                line = next(line for line in worker.stderr if "/metrics" in line)
                [port] = re.findall(r":(\d+)$", line.strip())
                assert manager.recv(100) == b"READY=1"
                assert manager.recv(100) == b"WATCHDOG=1"
                endpoint = run("health", "--url", f"http://127.0.0.1:{port}/readyz")
                assert endpoint.returncode == 0, endpoint.stdout
                assert "ok    loop: the event loop responds\n" in endpoint.stdout
                assert run("workers", "drain", "till-1", "--yes", "--storage", url).returncode == 0
                worker.communicate(timeout=60)
                assert worker.returncode == 0
            finally:
                worker.kill()
        while manager.recv(100) != b"STOPPING=1":
            pass
    gone = run("health", "--storage", url, "--worker", "till-1")
    assert (gone.returncode, "no worker 'till-1' is registered" in gone.stdout) == (4, True)
