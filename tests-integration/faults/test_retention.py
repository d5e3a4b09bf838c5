"""Several processes prune finished jobs all the time while workers are killed: no unfinished job is removed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from load import ALL_KINDS, PATIENT, Load
from scaling import Scale

from jobq_core import open_storage
from jobq_core.storage import QueueOptions, QueueStorage, Retention

KEPT = 5.0
"""Seconds for which a finished job is kept: long enough for a waiting client to see its end."""
PRUNERS = 2
"""Number of tasks that prune, in addition to the workers, which prune every ten seconds."""


async def prune(storage: QueueStorage, ending: asyncio.Event, pruned: list[int]) -> None:
    """Prune finished jobs repeatedly."""
    while not ending.is_set():
        pruned.append(await storage.prune())
        await asyncio.sleep(0.05)


async def test_jobs_pruned_under_load_have_ended_and_their_clients_know_the_end(
    migrated_url: str, load_on: Callable[..., Load], report: Callable[..., None], seed: int, scale: Scale
) -> None:
    load, dice = load_on(migrated_url), random.Random(seed)
    kills, pruned, ending = scale.times(4, least=2), list[int](), asyncio.Event()
    async with open_storage(migrated_url) as storage, asyncio.TaskGroup() as pruners:
        kept = Retention(completed=KEPT, failed=KEPT, aborted=KEPT)
        await storage.set_queue("default", QueueOptions(retention=kept))
        for _ in range(PRUNERS):
            pruners.create_task(prune(storage, ending, pruned))
        plan = PATIENT | {"kinds": ALL_KINDS, "keys": 4, "many": 20, "delayed": 0.1, "aborted": 0.1}
        workers = [load.worker().started() for _ in range(2)]
        client = load.client(jobs=160 * kills, rate=100, seed=seed, **plan).started()
        for _ in range(kills):
            await load.some_more(client, 100)
            place = dice.randrange(len(workers))
            workers[place].kill()
            workers[place] = load.worker().started()
        client.done(120)
        await load.drained()
        async with asyncio.timeout(60):
            while not any(pruned):  # noqa: ASYNC110  (the test waits for time to pass)
                await asyncio.sleep(0.05)
        ending.set()
    heard = {event.job for event in load.history().events}
    verdict = await load.verdict(removed=heard, undisturbed=True)
    report("finished jobs removed under load", tried=sum(pruned), **verdict.figures)
    assert verdict.text == ""
    assert all(worker.alive for worker in workers)
    async with open_storage(migrated_url) as storage:
        nothing = Retention(completed=0.0, failed=0.0, aborted=0.0)
        await storage.set_queue("default", QueueOptions(retention=nothing))
        while await storage.prune():
            pass
    emptied = await load.verdict(removed=heard, undisturbed=True)
    assert emptied.text == "", "nothing is left of the pruned jobs"
    assert emptied.finals == []
