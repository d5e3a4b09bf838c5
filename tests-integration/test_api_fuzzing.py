"""The HTTP API keeps to its own OpenAPI document, whatever is sent to it.

schemathesis makes the requests from the document: at and beyond the bounds of each parameter and field, with each part
missing, of a wrong type or repeated, with methods and media types that the document does not have, and at random from a
fixed seed. Each operation meets its own storage, with jobs of every state.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import httpx
import pytest
from every_state import QUEUE, Staged, stage
from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope, Send

from jobq_core.memory import MemoryQueueStorage
from jobq_server.web import Credentials, Role, create_app
from jobq_server.web.api import ROUTES
from jobq_server.web.api.openapi import make_document
from jobq_server.web.paths import API

if TYPE_CHECKING:
    import schemathesis

EXAMPLES: Final = 3
"""Random requests to each operation."""
JOBS: Final = 16
"""Two of each state."""
BASE: Final = f"http://testserver{API}"
AUTHORIZATION: Final = {"authorization": "Bearer the-token-of-admin"}
CONFIGURATION: Final = {
    "seed": 1,
    "generation": {"max-examples": EXAMPLES, "database": "none", "with-security-parameters": False},
    "phases": {"coverage": {"unexpected-methods": ["OPTIONS", "PUT"]}},
    # The tests of the package ask each route with each role.
    "checks": {"ignored_auth": {"enabled": False}},
}


@pytest.mark.matrix  # it computes for 12 s
@pytest.mark.timeout(300)
def test_the_api_does_what_its_document_says() -> None:
    # Imported here: it takes a second, and each of pytest's processes imports all modules of tests.
    import schemathesis
    from schemathesis.config import SchemathesisConfig

    document = schemathesis.openapi.from_dict(
        make_document(ROUTES, API), config=SchemathesisConfig.from_dict(CONFIGURATION)
    )
    faults: list[str] = []
    with asyncio.Runner() as runner:
        for found in document.get_all_operations():
            operation = found.ok()
            with served(runner) as fuzzed:
                fuzz(operation, fuzzed.check)
            assert fuzzed.accepted, f"no request to {operation.label} was accepted"
            faults += fuzzed.faults
    assert not faults, "\n\n".join(faults)


def fuzz(operation: schemathesis.APIOperation, check: Callable[[schemathesis.Case], None]) -> None:
    """Call a function with each request to an operation."""
    import hypothesis
    from schemathesis.generation.hypothesis.builder import HypothesisTestConfig, HypothesisTestMode, create_test

    settings = hypothesis.settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    configuration = HypothesisTestConfig(
        modes=[HypothesisTestMode.COVERAGE, HypothesisTestMode.FUZZING],
        project=operation.schema.config,
        settings=settings,
        seed=1,
    )
    create_test(operation=operation, test_func=check, config=configuration)()


class Fuzzed:
    """An application that is sent requests, and what is wrong with its answers."""

    def __init__(self, runner: asyncio.Runner, client: httpx.AsyncClient, staged: Staged) -> None:
        self.faults: list[str] = []
        self.accepted = 0
        self._runner = runner
        self._client = client
        self._staged = staged
        self._numbers = count()

    def check(self, case: schemathesis.Case) -> None:
        """Send a request, and compare the answer with the document."""
        from schemathesis.core.failures import FailureGroup
        from schemathesis.specs.openapi.checks import positive_data_acceptance

        self._aim(case)
        hurry(case)
        sent = case.as_transport_kwargs(base_url=BASE, headers=AUTHORIZATION)
        content = {"content": sent["data"]} if "data" in sent else {"json": sent["json"]} if "json" in sent else {}
        answer = self._runner.run(
            self._client.request(
                sent["method"], sent["url"], params=sent.get("params"), headers=sent["headers"], **content
            )
        )
        self.accepted += answer.is_success
        # A schema cannot say all of a body, such as that only one of two fields is given.
        excluded = [positive_data_acceptance] if case.method == "POST" else []
        try:
            case.validate_response(answer, excluded_checks=excluded)
        except FailureGroup as group:
            request = answer.request
            shown = f"{request.method} {request.url}\n{request.content!r}\n{answer.status_code} {answer.text[:500]}"
            self.faults += [f"{shown}\n{failure.title}: {failure.message}" for failure in group.exceptions]

    def _aim(self, case: schemathesis.Case) -> None:
        """Have most of the ids and names in paths be those of something."""
        number, parts = next(self._numbers), case.path_parameters
        for name, value in list((parts or {}).items()):
            if number % 8 and is_id(value):
                parts[name] = str(self._target(case.path, name, number))
            elif name == "name" and isinstance(value, str) and number % 4 == 0:
                parts[name] = QUEUE

    def _target(self, path: str, name: str, number: int) -> UUID:
        if name == "request":
            return self._staged.request
        if path.startswith("/jobs"):
            return self._staged.jobs[number % JOBS]
        return self._staged.worker if path.startswith("/workers") else self._staged.operation


@contextmanager
def served(runner: asyncio.Runner) -> Iterator[Fuzzed]:
    """Serve an application over a storage of its own."""
    storage = MemoryQueueStorage()
    runner.run(storage.open())
    app = create_app(storage, auth=Credentials(tokens={"the-token-of-admin": ("admin", Role.ADMIN)}))
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app=one_event(app)))
    yield Fuzzed(runner, client, runner.run(stage(storage, JOBS)))
    runner.run(client.aclose())
    runner.run(app.state.web.close())
    runner.run(storage.close())


def one_event(app: Starlette) -> Any:
    """Return an application whose streams end after an event, as at the stop of their server."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            await send(message)
            if message.get("body", b"").startswith(b"event: "):
                app.state.web.streams.close()

        await app(scope, receive, sending)

    return wrapped


def hurry(case: schemathesis.Case) -> None:
    """Have requests that wait do so for 0 seconds, where their timeout is valid."""
    given = {"wait_job": case.query, "stack_worker": case.body}.get(case.operation.definition.raw["operationId"])
    if isinstance(given, dict) and (given.get("timeout") is None or is_seconds(given["timeout"])):
        given["timeout"] = 0


def is_id(value: Any) -> bool:
    try:
        return bool(UUID(str(value)))
    except ValueError:
        return False


def is_seconds(value: Any) -> bool:
    try:
        return 0 <= float(value) <= 60
    except (TypeError, ValueError):
        return False
