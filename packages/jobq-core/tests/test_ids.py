from __future__ import annotations

import copy
import multiprocessing
import pickle
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest
import uuid_utils

from jobq_core.errors import InvalidJobError
from jobq_core.ids import new_id, new_ids, parse_id, shard_of


def milliseconds(made: uuid.UUID) -> int:
    return made.int >> 80


def test_an_id_is_a_uuid_of_version_7() -> None:
    made = new_id()
    assert type(made) is uuid.UUID
    assert (made.version, made.variant) == (7, uuid.RFC_4122)


def test_an_id_holds_the_time_at_which_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    made = milliseconds(new_id())
    assert before <= made <= time.time_ns() // 1_000_000


def test_ids_made_one_after_the_other_are_in_order() -> None:
    made = [new_id() for _ in range(10_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_many_made_at_once_stand_in_order_between_those_before_and_after() -> None:
    before, many, after = new_id(), new_ids(10_000), new_id()
    made = [before, *many, after]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert {(each.version, each.variant) for each in many} == {(7, uuid.RFC_4122)}


def test_an_id_made_here_is_as_any_other_uuid() -> None:
    made = new_id()
    read = uuid.UUID(str(made))
    assert (made, hash(made), made.bytes, made.is_safe) == (read, hash(read), read.bytes, read.is_safe)
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made


def test_processes_forked_from_one_share_no_id() -> None:
    new_id()
    context = multiprocessing.get_context("fork")
    with context.Pool(4) as pool:
        made = [each for many in pool.map(new_ids, [1000] * 16, chunksize=1) for each in many]
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("offset", [3600.0, -3600.0, 0.25, -0.001])
def test_the_offset_moves_the_time_and_nothing_else(offset: float) -> None:
    before = time.time_ns() // 1_000_000
    made = new_id(offset)
    after = time.time_ns() // 1_000_000
    assert before <= milliseconds(made) - round(offset * 1000) <= after
    assert (made.version, made.variant) == (7, uuid.RFC_4122)


@pytest.mark.parametrize("off", [7200.0, -7200.0])
def test_an_id_made_for_a_moment_holds_that_whatever_the_clock_was_set_to_since(off: float) -> None:
    moment = time.time() + off
    assert milliseconds(new_id(0.25, moment)) == int(moment * 1000) + 250


def test_an_id_is_read_from_text() -> None:
    made = new_id()
    assert parse_id(str(made)) == made
    assert parse_id(made) is made


@pytest.mark.parametrize("value", ["", "7", "not an id", None, 7, b"x"])
def test_anything_but_an_id_is_refused(value: object) -> None:
    with pytest.raises(InvalidJobError, match="is not a job id"):
        parse_id(value)  # type: ignore[arg-type]


def test_a_clock_that_was_set_back_sets_ids_back_and_keeps_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    # The library's own clock cannot be set from here: what it makes is moved instead, as if made before the setting.
    library = uuid_utils.uuid7
    ahead = 7_200_000 << 80
    monkeypatch.setattr(uuid_utils, "uuid7", lambda: uuid.UUID(int=library().int + ahead))
    before = time.time_ns() // 1_000_000
    made = [*(new_id() for _ in range(1000)), *new_ids(1000)]
    after = time.time_ns() // 1_000_000
    assert all(before - 1 <= milliseconds(each) <= after + 1 for each in made)
    assert len(set(made)) == len(made)


def test_threads_share_no_id_and_each_has_its_own_in_order() -> None:
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda _: [new_id() for _ in range(500)], range(16)))
    assert all(part == sorted(part) for part in parts)
    assert len({each for part in parts for each in part}) == 16 * 500


def test_an_id_holds_the_number_of_its_shard() -> None:
    assert {shard_of(each) for each in new_ids(1000)} == {0}
    made = [*new_ids(300, shard=255), *new_ids(300, shard=7)]
    assert [shard_of(each) for each in made] == [255] * 300 + [7] * 300
    assert made[:300] == sorted(made[:300])
    assert {(each.version, each.variant) for each in made} == {(7, uuid.RFC_4122)}
