from __future__ import annotations

import pytest

from jobq_client import JobQueueClient, Output
from jobq_core import ConfigurationError

from .helpers import ManualWorker
from .jobs import convert, keep


async def test_the_result_of_equal_arguments_is_found_whatever_the_order_of_keys(
    client: JobQueueClient, worker: ManualWorker
) -> None:
    await client.add(convert({"size": {"w": 1, "h": [{"a": 1, "b": 2}]}, "to": "png"}))
    await worker.run(b'"a.png"')
    same = convert({"to": "png", "size": {"h": [{"b": 2, "a": 1}], "w": 1}})
    assert await client.output_for(same) == "a.png"


async def test_without_a_match_it_returns_none(client: JobQueueClient, worker: ManualWorker) -> None:
    assert await client.output_for(convert({"a": 1})) is None
    await client.add(convert({"a": 1}))
    await worker.run(b'"a.png"')
    assert await client.output_for(convert({"a": 2})) is None


async def test_find_output_distinguishes_the_result_none_from_no_match(
    client: JobQueueClient, worker: ManualWorker
) -> None:
    handle = await client.add(convert({"a": 1}))
    assert await client.find_output(convert({"a": 1})) is None
    await worker.run(b"null")
    assert await client.output_for(convert({"a": 1})) is None
    assert await client.find_output(convert({"a": 1})) == Output(handle.id, None)


async def test_it_is_the_newest_completed_job(client: JobQueueClient, worker: ManualWorker) -> None:
    for result in (b'"first"', b'"second"'):
        await client.add(convert({"a": 1}))
        await worker.run(result)
    await client.add(convert({"a": 1}))
    await worker.fail(await worker.claim_one())
    await client.add(convert({"a": 1}))
    assert await client.output_for(convert({"a": 1})) == "second"


async def test_the_queue_is_the_one_that_add_would_choose(client: JobQueueClient, worker: ManualWorker) -> None:
    await client.add(convert({"a": 1}), queue="mail")
    await worker.run(b'"a.png"')
    assert await client.output_for(convert({"a": 1})) is None
    assert await client.output_for(convert({"a": 1}), queue="mail") == "a.png"


async def test_a_kind_without_fingerprints_is_refused(client: JobQueueClient) -> None:
    with pytest.raises(ConfigurationError, match=r"keep keeps no fingerprints.*fingerprint=True"):
        await client.output_for(keep(1))
