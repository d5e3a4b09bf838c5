"""Asymmetric partitions: some workers are cut off from PostgreSQL, while others are not and can take their jobs.

A worker that is cut off must stop its runs before its leases expire; nothing in this file excuses a late stop. The
leases are long, so that a short moment of load on the machine does not make a worker late.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from history import History, Run
from load import Load, Process
from load_jobs import at_gate, quick, sleeping, threaded_at_gate
from proxy import Proxy

from jobq_core import open_storage
from jobq_core.states import JobState

LEASE = 10.0
"""Seconds after which a silent worker counts as lost. The worker stops its runs a tenth earlier, a margin of 1 s."""
SHORT = 3.0
"""The same, if the worker has no runs that it could stop too late."""
LIMIT = 2
"""Seconds for which a worker waits for an answer."""
SLOTS = 4
LOST = "counted as lost"


@contextlib.contextmanager
def refusing(proxy: Proxy) -> Iterator[None]:
    """Break all connections, and refuse new ones."""
    proxy.refuse = True
    proxy.break_all()
    try:
        yield
    finally:
        proxy.heal()


WAYS: dict[str, Callable[[Proxy], contextlib.AbstractContextManager[object]]] = {
    "swallowed": lambda proxy: proxy.black_hole(both=True),
    "late": Proxy.held_back,
    "refused": refusing,
}
"""How a worker is cut off, by the name of its queue: its messages are lost; or they arrive late, when nothing waits for
the answers; or its connections are refused."""


@pytest.fixture
async def load(postgres_url: str, load_on: Callable[..., Load]) -> Load:
    await open_storage(postgres_url).migrate()
    return load_on(postgres_url)


def through(proxy: Proxy, load: Load) -> str:
    """Return the URL of the load's database through a proxy."""
    return proxy.url_of(urlsplit(load.url).path, time_limit=LIMIT)


def runs_of(history: History, worker: Process) -> list[Run]:
    return [run for run in history.runs if run.pid == worker.pid]


async def fill(load: Load, queue: str, gate: Path) -> dict[str, Run]:
    """Fill all slots of a queue's worker with jobs that wait for the gate, and its buffer with quick jobs."""
    # The worker learns that jobs are short, and then claims more jobs than it has slots.
    early = {f"{queue} early {n}" for n in range(60)}
    await load.add([quick(token=token) for token in early], queue=queue)
    await load.until(lambda history: {run.token for run in history.runs if run.end is not None} >= early)
    gated = [make(token=f"{queue} {n}", gate=str(gate)) for n, make in enumerate([at_gate, threaded_at_gate] * 2)]
    await load.add([*gated, *(quick(token=f"{queue} at hand {n}") for n in range(20))], queue=queue)
    tokens = {job.token for job in gated}
    history = await load.until(lambda history: {run.token for run in history.runs} >= tokens)
    return {run.token: run for run in history.runs if run.token in tokens}


async def test_workers_that_are_cut_off_stop_their_runs_before_others_begin_them(
    load: Load, report: Callable[..., None], tmp_path: Path
) -> None:
    gate, other_gate = tmp_path / "gate", tmp_path / "other gate"
    with contextlib.ExitStack() as proxies, contextlib.ExitStack() as cuts:
        reached = {way: proxies.enter_context(Proxy(load.url)) for way in WAYS}
        cut_off = {
            way: load.worker("--queue", way, slots=SLOTS, lost_after=LEASE, url=through(proxy, load))
            for way, proxy in reached.items()
        }
        taken: dict[str, Run] = {}
        for worker in cut_off.values():
            worker.started()
        for way, worker in cut_off.items():
            taken |= await fill(load, way, gate)
            worker.cut_off()
            cuts.enter_context(WAYS[way](reached[way]))
        queues = [option for way in WAYS for option in ("--queue", way)]
        other = load.worker(*queues, slots=len(taken), lost_after=LEASE).started()
        # These jobs fill the other worker: all further jobs wait for the workers that are cut off.
        await load.until(lambda history: {run.token for run in runs_of(history, other)} >= taken.keys())
        for worker in cut_off.values():
            worker.line("could not renew its leases in time")
            assert LOST not in worker.output, "the worker cannot know"
        # Their late messages arrive while the other worker runs the same jobs.
        cuts.close()
        for worker in cut_off.values():
            worker.line(LOST)
        for way in WAYS:
            await load.hold(other_gate, *(f"{way} new {n}" for n in range(SLOTS)), queue=way)
        assert reached["late"].late.keys() - {"START"}, "delayed statements arrived"
        for path in (gate, other_gate):
            path.touch()
        for way in WAYS:
            await load.drained(queue=way)
        workers = [*cut_off.values(), other]
        for worker in workers:
            worker.term()
        assert [worker.wait() for worker in workers] == [0] * len(workers)
    verdict = await load.verdict(undisturbed=True, punctual=cut_off.values())
    report("cut off while others are not", tried=len(WAYS), **verdict.figures)
    assert verdict.text == ""
    again = {run.token: run for run in runs_of(verdict.history, other)}
    finals = {final.token: final for final in verdict.finals}
    for token, cut in taken.items():
        run = next(run for run in verdict.history.runs if run.lease == cut.lease)
        assert run.end is not None, token
        assert (run.ending, run.end < again[token].start) == ("stopped", True), f"{token}: {run}, {again[token]}"
        final = finals[token]
        assert (final.lease, final.lost, final.attempt) == (again[token].lease, {run.lease}, 2), token
    for way, worker in cut_off.items():
        its = runs_of(verdict.history, worker)
        assert len({run.worker for run in its}) == 2, f"{way}: registered again"
        assert sum(run.token.startswith(f"{way} new") for run in its) == SLOTS, f"{way}: the worker runs new jobs"
        assert "was not stored: its lease was over" in worker.output, way


async def swallowed(load: Load, worker: Process, proxy: Proxy, hole: contextlib.ExitStack) -> list[str]:
    """Add twice as many jobs as a worker has slots, and lose the answer to its claim; return the tokens."""
    tokens = [f"swallowed {n}" for n in range(2 * SLOTS)]
    worker.cut_off()
    claim = hole.enter_context(proxy.black_hole(since=b"swallowed "))
    await load.add([sleeping(token=token, seconds=0.05) for token in tokens])
    claim.wait()
    return tokens


async def claimed(load: Load) -> int:
    async with open_storage(load.direct) as storage:
        return (await storage.counts("default"))["default"][JobState.PROCESSING]


async def test_claims_whose_answers_are_lost_for_less_than_a_lease_are_found_and_run_once(
    load: Load, report: Callable[..., None]
) -> None:
    with Proxy(load.url) as proxy, contextlib.ExitStack() as hole:
        worker = load.worker(slots=SLOTS, lost_after=LEASE, url=through(proxy, load)).started()
        tokens = await swallowed(load, worker, proxy, hole)
        assert await claimed(load) >= SLOTS
        assert load.history().runs == []
        hole.close()
        await load.drained()
        worker.term()
        assert worker.wait() == 0
    verdict = await load.verdict(undisturbed=True, punctual=[worker])
    report("answers to claims lost for a moment", tried=1, **verdict.figures)
    assert verdict.text == ""
    assert Counter(run.token for run in verdict.history.runs) == dict.fromkeys(tokens, 1)
    assert {(final.attempt, final.lost) for final in verdict.finals} == {(1, frozenset())}


async def test_claims_whose_answers_are_lost_for_longer_than_a_lease_are_rescued_and_run_once(
    load: Load, report: Callable[..., None]
) -> None:
    with Proxy(load.url) as proxy, contextlib.ExitStack() as hole:
        worker = load.worker(slots=SLOTS, lost_after=SHORT, url=through(proxy, load)).started()
        tokens = await swallowed(load, worker, proxy, hole)
        held = await claimed(load)
        assert held >= SLOTS
        other = load.worker(slots=SLOTS, lost_after=SHORT).started()
        await load.drained()
        hole.close()
        worker.line(LOST)
        other.term()
        assert other.wait() == 0
        await load.add([quick(token="after")])
        await load.drained()
        worker.term()
        assert worker.wait() == 0
    verdict = await load.verdict(undisturbed=True, punctual=[worker])
    report("answers to claims lost past the lease", tried=1, **verdict.figures)
    assert verdict.text == ""
    assert Counter(run.token for run in runs_of(verdict.history, other)) == dict.fromkeys(tokens, 1)
    assert [run.token for run in runs_of(verdict.history, worker)] == ["after"]
    assert sum(len(final.lost) for final in verdict.finals) >= held
