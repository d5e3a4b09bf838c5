from __future__ import annotations

import pytest

from jobq_client import JobQueueClient, Output
from jobq_core import ConfigurationError

from .helpers import Hands
from .jobs import convert, keep


async def test_the_result_of_equal_arguments_is_found_whatever_the_order_of_keys(
    client: JobQueueClient, worker: Hands
) -> None:
    await client.add(convert({"size": {"w": 1, "h": [{"a": 1, "b": 2}]}, "to": "png"}))
    await worker.run(b'"a.png"')
    same = convert({"to": "png", "size": {"h": [{"b": 2, "a": 1}], "w": 1}})
    assert await client.output_for(same) == "a.png"


async def test_no_match_is_none(client: JobQueueClient, worker: Hands) -> None:
    assert await client.output_for(convert({"a": 1})) is None
    await client.add(convert({"a": 1}))
    await worker.run(b'"a.png"')
    assert await client.output_for(convert({"a": 2})) is None


async def test_a_result_that_is_none_can_be_told_from_no_match(client: JobQueueClient, worker: Hands) -> None:
    handle = await client.add(convert({"a": 1}))
    assert await client.find_output(convert({"a": 1})) is None
    await worker.run(b"null")
    assert await client.output_for(convert({"a": 1})) is None
    assert await client.find_output(convert({"a": 1})) == Output(handle.id, None)


async def test_it_is_the_newest_completed_job(client: JobQueueClient, worker: Hands) -> None:
    for result in (b'"first"', b'"second"'):
        await client.add(convert({"a": 1}))
        await worker.run(result)
    await client.add(convert({"a": 1}))
    await worker.fail(await worker.claim_one())
    await client.add(convert({"a": 1}))
    assert await client.output_for(convert({"a": 1})) == "second"


async def test_it_looks_where_add_would_put_the_job(client: JobQueueClient, worker: Hands) -> None:
    await client.add(convert({"a": 1}), queue="mail")
    await worker.run(b'"a.png"')
    assert await client.output_for(convert({"a": 1})) is None
    assert await client.output_for(convert({"a": 1}), queue="mail") == "a.png"


async def test_a_kind_without_fingerprints_is_refused(client: JobQueueClient) -> None:
    with pytest.raises(ConfigurationError, match=r"keep keeps no fingerprints.*fingerprint=True"):
        await client.output_for(keep(1))
