from __future__ import annotations

import types

import pytest

from jobq_core.declaring import job
from jobq_core.errors import ConfigurationError
from jobq_core.job import Job
from jobq_core.registry import Registry


@job()
def send(number: int) -> None: ...


@job(name="scale-image")
class Scale(Job[None]):
    path: str


def module() -> types.ModuleType:
    made = types.ModuleType("shop.jobs")
    made.send = send  # type: ignore[attr-defined]
    made.again = send  # type: ignore[attr-defined]
    made.Scale = Scale  # type: ignore[attr-defined]
    # What else stands in such a module is passed by.
    made.Job, made.job, made.value, made.number = Job, job, send(1), 7  # type: ignore[attr-defined]
    return made


def test_jobs_are_found_by_kind() -> None:
    registry = Registry([send, Scale])
    assert registry.get("send") is send.definition
    assert registry.get("scale-image") is Scale.definition
    assert registry.get("Scale") is None
    assert [definition.kind for definition in registry] == ["send", "scale-image"]
    assert len(registry) == 2


def test_an_empty_registry_knows_nothing() -> None:
    assert len(Registry()) == 0
    assert Registry().get("send") is None


def test_all_jobs_of_a_module_are_taken() -> None:
    assert {definition.kind for definition in Registry(module())} == {"send", "scale-image"}


def test_modules_and_jobs_can_be_mixed() -> None:
    @job()
    def other() -> None: ...

    assert {definition.kind for definition in Registry([module(), other, send])} == {"send", "scale-image", "other"}


def test_the_same_job_again_changes_nothing() -> None:
    registry = Registry([send])
    registry.add(send.definition)
    assert len(registry) == 1


def test_two_different_jobs_of_a_name_are_refused_with_both_places() -> None:
    @job(name="send")
    def other() -> None: ...

    with pytest.raises(
        ConfigurationError, match=r"two jobs are called 'send': .*test_registry\.send and .*@job\(name="
    ):
        Registry([send, other])


def test_anything_but_a_job_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="is not a job"):
        Registry([len])
    with pytest.raises(ConfigurationError, match="is not a job"):
        Registry(["send"])
    for wrong in (5, None, "send", len):
        with pytest.raises(ConfigurationError, match="jobs must be several"):
            Registry(wrong)  # type: ignore[arg-type]


def test_a_job_imported_into_two_modules_is_one() -> None:
    assert len(Registry([module(), module()])) == 2
