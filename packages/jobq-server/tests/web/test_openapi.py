"""The OpenAPI document says what the routes do."""

from __future__ import annotations

import re
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from jobq_core.memory import MemoryQueueStorage
from jobq_server.web import Role, create_app
from jobq_server.web.api import ROUTES
from jobq_server.web.api.openapi import make_document

from .helpers import Connect, credentials

DOCUMENT = make_document(ROUTES, "/api/v1")
OPERATIONS = [
    (path, method, operation) for path, item in DOCUMENT["paths"].items() for method, operation in item.items()
]


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    if isinstance(value, list):
        return set().union(*map(references, value))
    return set()


def test_each_route_is_in_the_document_under_its_own_name() -> None:
    assert len(OPERATIONS) == len(ROUTES)
    names = [operation["operationId"] for *_, operation in OPERATIONS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in names)


def test_each_operation_is_described() -> None:
    for path, _, operation in OPERATIONS:
        assert operation["summary"]
        assert re.search(r"Needs the role `(view|operate|admin)`", operation["description"])
        assert {part["name"] for part in operation["parameters"] if part["in"] == "path"} == set(
            re.findall(r"\{(\w+)\}", path)
        )
        assert {"401", "403"} <= operation["responses"].keys()


def test_each_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        kind, name = reference.removeprefix("#/components/").split("/")
        assert name in DOCUMENT["components"][kind]


def test_all_errors_have_one_schema_and_say_when_to_try_again() -> None:
    responses = DOCUMENT["components"]["responses"]
    for problem in responses.values():
        assert problem["content"] == {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    assert [name for name, problem in responses.items() if "Retry-After" in problem.get("headers", ())] == [
        "Problem429",
        "Problem503",
    ]
    for path, _, operation in OPERATIONS:
        errors = {status for status in operation["responses"] if int(status) >= 400}
        assert {"400", "401", "403", "414", "421", "429", "500", "503"} <= errors, path


def test_no_field_of_a_body_has_a_default_that_makes_generators_require_it() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert not [name for name, schema in schemas.items() if "default" in str(schema.get("properties", {}).values())]
    assert schemas["NewJobBody"]["required"] == ["kind"]
    assert schemas["NewJobBody"]["additionalProperties"] is False


def test_moments_and_ids_have_their_formats() -> None:
    job = DOCUMENT["components"]["schemas"]["JobView"]["properties"]
    assert job["id"] == {"type": "string", "format": "uuid"}
    assert job["created_at"] == {"type": "string", "format": "date-time"}


@pytest.mark.parametrize("mount", ["", "/ops/jobq"])
async def test_the_document_names_the_place_of_the_api(
    connect: Connect, storage: MemoryQueueStorage, mount: str
) -> None:
    inner = create_app(storage, auth=credentials())
    app = Starlette(routes=[Mount(mount, inner)]) if mount else inner
    answer = await connect(app, role=Role.VIEW).get(f"{mount}/api/v1/openapi.json")
    assert answer.json()["servers"] == [{"url": f"{mount}/api/v1"}]
