"""The files of examples/deploy: each is checked by what would read it, or by its schema; see documents/resources.py."""

from __future__ import annotations

import asyncio
import copy
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import psycopg
import pytest
import yaml
from psycopg.conninfo import make_conninfo

from jobq_client import JobQueueClient
from jobq_storage_postgres import PostgresQueueStorage
from jobq_worker import JobQueueWorker

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "examples" / "deploy"
BIN = Path(sys.executable).parent

sys.path.insert(0, str(Path(__file__).with_name("documents")))

from blocks import Block  # noqa: E402
from commands import check_jobq  # noqa: E402
from resources import (  # noqa: E402
    Resource,
    ResourceError,
    check_commands,
    check_resource,
    check_together,
    containers,
)

MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def check_command(command: list[str]) -> None:
    """Raise PageError unless this is a command of jobq with valid options."""
    check_jobq(Block(DEPLOY, 0, "", ""), command)


@pytest.fixture(autouse=True)
def storage_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the commands find their storage, as they do in the deployment."""
    monkeypatch.setenv("JOBQ_STORAGE", "postgresql:///shop")


def named(path: Path) -> str:
    return path.name


# Kubernetes


@pytest.fixture(scope="module")
def resources() -> list[Resource]:
    return [document for path in MANIFESTS for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", MANIFESTS, ids=named)
def test_a_cluster_would_take_each_resource(path: Path) -> None:
    for resource in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        check_resource(resource)
        check_commands(resource, check_command)


def test_the_resources_fit_each_other(resources: list[Resource]) -> None:
    check_together(resources)
    kinds = {resource["kind"] for resource in resources}
    assert kinds >= {"Deployment", "Job", "PodDisruptionBudget", "ScaledObject", "Service", "TriggerAuthentication"}


def test_each_container_runs_without_rights_and_within_limits(resources: list[Resource]) -> None:
    for container in containers(resources_by_name(resources)):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        assert not container["image"].endswith(":latest")


def resources_by_name(resources: list[Resource]) -> Resource:
    """Return all resources as one value."""
    return {f"{resource['kind']}/{resource['metadata']['name']}": resource for resource in resources}


def change(kind: str, name: str, *path: Any, value: Any) -> Callable[[list[Resource]], None]:
    """Return a function that sets one field of a resource; the value DELETE removes it."""

    def act(resources: list[Resource]) -> None:
        found: Any = resources_by_name(resources)[f"{kind}/{name}"]
        for step in path[:-1]:
            found = found[step]
        if value == "DELETE":
            del found[path[-1]]
        else:
            found[path[-1]] = value

    return act


METRICS = ["jobq", "worker", "shop.jobs", "--stop-timeout", "60", "--metrics-port", "9090"]
POD = ("spec", "template", "spec")


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (change("Deployment", "shop-worker", *POD, "terminationGracePeriodSecond", value=80), "Additional properties"),
        (change("Deployment", "shop-worker", "apiVersion", value="apps/v2"), "is not of apiVersion 'apps/v2'"),
        (change("Deployment", "shop-web", *POD, "containers", 0, "image", value=3), "3 is not of type 'string'"),
        (change("Service", "shop-web", "metadata", "name", value="Shop"), "its name is not valid"),
        (change("Service", "shop-web", "spec", "selector", value={"app": "shop"}), "selects no pods"),
        (
            change("Service", "shop-web", "spec", "ports", 0, "targetPort", value="web"),
            "targetPort of Service shop-web",
        ),
        (
            change("PodDisruptionBudget", "shop-worker", "spec", "selector", "matchLabels", value={"app": "x"}),
            "selector of shop-worker selects no pods",
        ),
        (change("Deployment", "shop-worker", *POD, "terminationGracePeriodSeconds", value=60), "must be 75 or more"),
        (
            change("Deployment", "shop-server", *POD, "terminationGracePeriodSeconds", value="DELETE"),
            "must be 75 or more, not 30",
        ),
        (change("Deployment", "shop-worker", *POD, "containers", 0, "ports", value=[]), "the port of the startupProbe"),
        (change("Deployment", "shop-worker", *POD, "containers", 0, "command", value=METRICS), "set --metrics-host"),
        (
            change(
                "Deployment", "shop-server", *POD, "containers", 0, "livenessProbe", "httpGet", "port", value="http"
            ),
            "the livenessProbe of shop-server calls by address",
        ),
        (change("Deployment", "shop-worker", *POD, "volumes", value=[]), "a volume of shop-worker is 'tmp'"),
        (change("Deployment", "shop-web", *POD, "securityContext", value={}), "shop-web may run as root"),
        (change("Deployment", "shop-worker", "spec", "replicas", value=3), "undo what KEDA scaled"),
        (change("ScaledObject", "shop-worker", "spec", "maxReplicas", value=3), "'maxReplicas' was unexpected"),
        (change("ScaledObject", "shop-worker", "spec", "pollingInterval", value="15 s"), "pollingInterval"),
        (
            change("ScaledObject", "shop-worker", "spec", "scaleTargetRef", "name", value="shop-workers"),
            "the target of ScaledObject shop-worker is 'shop-workers'",
        ),
        (change("TriggerAuthentication", "shop-worker", "metadata", "name", value="keda"), "the authentication of"),
        (
            change("Job", "shop-migrate", *POD, "containers", 0, "command", value=["jobq", "migrate", "--fast"]),
            "No such option",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_resource_is_found(act: Callable[[list[Resource]], None], said: str, resources: list[Resource]) -> None:
    wrong = copy.deepcopy(resources)
    act(wrong)
    with pytest.raises(Exception, match=re.escape(said)) as raised:  # noqa: PT012  (one of them raises)
        for resource in wrong:
            if resource not in resources:
                check_resource(resource)
                check_commands(resource, check_command)
        check_together(wrong)
    assert type(raised.value).__name__ in (ResourceError.__name__, "PageError")


async def test_the_query_of_the_scaled_object_counts_what_waits_and_runs_with_the_rights_of_a_reader(
    resources: list[Resource], postgres_url: str, shop: Any
) -> None:
    trigger = resources_by_name(resources)["ScaledObject/shop-worker"]["spec"]["triggers"][0]
    storage = PostgresQueueStorage(postgres_url)
    await storage.migrate()
    with psycopg.connect(postgres_url, autocommit=True) as owner:
        owner.execute("CREATE ROLE keda LOGIN")
        try:
            await storage.grant({"reader": ["keda"]})
            keda = psycopg.connect(make_conninfo(postgres_url, user="keda"), autocommit=True)

            def value() -> int:
                """Return what KEDA divides by targetQueryValue."""
                row = keda.execute(trigger["metadata"]["query"]).fetchone()
                assert row is not None
                return int(row[0])

            with keda:
                async with storage, JobQueueClient(storage) as client, JobQueueClient(storage, "mail") as mail:
                    assert value() == 0
                    await client.add_many([shop.send_receipt(n) for n in range(12)])
                    await client.add(shop.close_day("2026-11-30"))
                    await client.add(shop.send_receipt(99), delay=3600)
                    await client.add(shop.send_receipt(99), queue="other")
                    assert value() == 13
                    await mail.pause()
                    assert value() == 1
                    await mail.resume()
                    waiting = (await client.find(queue="mail", state="pending")).jobs
                    async with JobQueueWorker(storage, jobs=[shop.send_receipt]):
                        await asyncio.gather(*(client.wait_for(job.id, timeout=20) for job in waiting))
                    assert value() == 1
        finally:
            owner.execute("DROP OWNED BY keda")
            owner.execute("DROP ROLE keda")


# The shop itself


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The jobs of the shop."""
    monkeypatch.syspath_prepend(DEPLOY)
    import shop.jobs

    yield shop.jobs
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.mark.usefixtures("shop")
async def test_the_web_app_adds_a_job_and_says_whether_it_is_ready(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBQ_STORAGE", sqlite_url)
    from shop.web import app

    async with app.router.lifespan_context(app) as state:

        async def served(scope: Any, receive: Any, send: Any) -> None:
            await app(scope | {"state": dict(state or {})}, receive, send)

        transport = httpx.ASGITransport(app=served)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as browser:
            added = await browser.post("/orders/7/receipt")
            assert added.status_code == 202
            shown = await browser.get(f"/jobs/{added.json()['job']}")
            assert shown.json() == {"state": "pending", "result": None}
            assert (await browser.get("/livez")).json() == {"status": "ok"}
            ready = await browser.get("/readyz")
            assert (ready.status_code, ready.json()["status"]) == (200, "ok")


# Images


def test_the_linter_of_dockerfiles_finds_nothing() -> None:
    assert hadolint(DEPLOY / "Dockerfile") == ""


def test_the_linter_of_dockerfiles_finds_an_error(tmp_path: Path) -> None:
    wrong = tmp_path / "Dockerfile"
    wrong.write_text("FROM python\nRUN pip install jobq\n")
    assert "DL3006" in hadolint(wrong)


def hadolint(dockerfile: Path) -> str:
    """Return what hadolint finds."""
    ran = subprocess.run([BIN / "hadolint", dockerfile], capture_output=True, text=True, check=False)
    return ran.stdout + ran.stderr


def dockerfile_stages() -> dict[str, list[tuple[str, str]]]:
    """Return the instructions of each stage of the Dockerfile, with those of the stages that it is made from."""
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    stages: dict[str, list[tuple[str, str]]] = {}
    for line in text.splitlines():
        instruction, _, rest = line.partition(" ")
        if instruction == "FROM":
            source, _, name = rest.partition(" AS ")
            stages[name] = list(stages.get(source, []))
        elif stages and instruction and not instruction.startswith("#"):
            stages[list(stages)[-1]].append((instruction, rest))
    return stages


@pytest.mark.parametrize("stage", ["web", "worker", "server"])
def test_each_image_runs_its_command_as_a_user_without_rights(stage: str) -> None:
    instructions = dict(dockerfile_stages()[stage])
    assert instructions["USER"] == "10001"
    command = json.loads(instructions["CMD"])
    if command[0] == "jobq":
        check_command(command)


def test_the_images_are_built_from_files_and_extras_that_exist() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    for instructions in dockerfile_stages().values():
        for instruction, rest in instructions:
            words = shlex.split(rest)
            if instruction == "COPY" and not rest.startswith("--from"):
                assert (ROOT / words[0]).exists(), rest
                assert any(line.startswith(f"!{words[0]}") for line in ignored), rest
            for word in words if words[:2] == ["pip", "install"] else []:
                if word.startswith("./"):
                    folder, _, extra = word.rstrip("]").partition("[")
                    project = (ROOT / folder / "pyproject.toml").read_text(encoding="utf-8")
                    assert not extra or re.search(rf"^{extra} = \[", project, re.MULTILINE), word


# Compose


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


def test_the_compose_file_follows_the_specification(compose: Any) -> None:
    path = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(compose, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(compose | {"services": {"web": {"imgae": "x"}}}, schema)


def test_the_services_of_the_compose_file_have_the_time_to_stop(compose: Any) -> None:
    stages = dockerfile_stages()
    for name, service in compose["services"].items():
        command = service.get("command", [])
        for words in (command, service.get("healthcheck", {}).get("test", [])[1:]):
            if words[:1] == ["jobq"]:
                check_command(words)
        if "--stop-timeout" in command:
            wanted = int(command[command.index("--stop-timeout") + 1]) + 15
            assert int(service["stop_grace_period"].removesuffix("s")) >= wanted, name
        if "build" in service:
            assert (DEPLOY / service["build"]["context"]).resolve() == ROOT
            assert (ROOT / service["build"]["dockerfile"]).exists()
            assert service["build"]["target"] in stages
        for other in service.get("depends_on", {}):
            assert other in compose["services"]


# systemd


@pytest.mark.parametrize("path", UNITS, ids=named)
def test_the_commands_of_the_units_are_valid_and_have_the_time_to_stop(path: Path) -> None:
    lines = dict(
        line.split("=", 1) for line in path.read_text(encoding="utf-8").splitlines() if re.match(r"\w+=", line)
    )
    program, *words = shlex.split(lines["ExecStart"])
    if Path(program).name == "jobq":
        check_command(["jobq", *words])
    if "--stop-timeout" in words:
        assert (lines["Type"], lines["KillMode"]) == ("notify", "mixed")
        assert int(lines["TimeoutStopSec"]) >= int(words[words.index("--stop-timeout") + 1]) + 15


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="this machine has no systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    assert verify(tmp_path, lambda text: text) == ""
    assert "Unknown key 'TimeoutStopSecs'" in verify(
        tmp_path, lambda text: text.replace("TimeoutStopSec", "TimeoutStopSecs")
    )


def verify(folder: Path, change: Callable[[str], str]) -> str:
    """Return what systemd says of the units, whose programs are those of this environment."""
    for path in UNITS:
        text = re.sub(r"/srv/shop/venv/bin/\w+", "/bin/true", path.read_text(encoding="utf-8"))
        (folder / path.name).write_text(change(text), encoding="utf-8")
    units = [str(folder / path.name) for path in UNITS]
    ran = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    return ran.stderr
