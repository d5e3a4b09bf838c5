"""Two workers break no promise in any reachable state, with three jobs and one fault or one job and two faults."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from exploration.explore import explore
from exploration.model import Luck, Model, start
from exploration.mutants import MUTANTS
from scaling import Scale

FAULTS = Luck._fields
PAIRS = list(itertools.combinations(FAULTS, 2))
MOST = 3_000_000


def luck(*faults: str, requests: int = 1) -> Luck:
    """Return a Luck that allows one fault of each of these kinds, or so many requests."""
    return Luck(**{name: (name in faults) * (requests if name == "requests" else 1) for name in FAULTS})


@pytest.mark.parametrize("fault", FAULTS)
def test_three_jobs_and_one_fault(fault: str, report: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    found = explore(Model(), start(2, (2, 2, 1), luck(fault)), most=MOST)
    with capsys.disabled():
        states = f"{found.states:,} states, {found.cut:,} of them at the bound"
        print(f" {states}, {found.steps:,} steps, {found.depth} deep ", end="")
    report("states of the model", tried=found.states)
    assert found.wrong is None, "\n".join([str(found.wrong), *found.path])


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("faults", PAIRS, ids=" and ".join)
def test_two_faults_at_once(faults: tuple[str, str], scale: Scale, report: Callable[..., None]) -> None:
    """Smallest scale: one job of two attempts; usual: also one job of one attempt; soak: two jobs."""
    usual, requests = [(1,), (2,)], 2 if scale.is_smallest else 3
    for jobs in usual[1:] if scale.is_smallest else [(most, 2) for most in (1, 2)] if scale.is_soak else usual:
        found = explore(Model(), start(2, jobs, luck(*faults, requests=requests)), most=MOST)
        report("states of the model", tried=found.states)
        assert found.wrong is None, "\n".join([str(found.wrong), *found.path])


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_missing_rule_is_found(mutant: type[Model]) -> None:
    # Those with the fewest states first: jobs of one attempt, single faults, and then the later pairs.
    for most, faults in itertools.product((1, 2), [*((fault,) for fault in FAULTS), *reversed(PAIRS)]):
        found = explore(mutant(), start(2, (most,), luck(*faults, requests=2)), most=MOST)
        if found.wrong is not None:
            assert found.path, "the path to the broken promise must be shown"
            return
    pytest.fail("no state broke a promise")
