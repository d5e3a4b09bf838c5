"""A storage given by URL is opened and closed by its owner; a storage object by its caller."""

from __future__ import annotations

import pytest

from jobq_core.errors import ClosedError, ConfigurationError
from jobq_core.memory import MemoryQueueStorage
from jobq_core.owned_storage import OwnedStorage


async def test_a_storage_given_by_url_is_opened_and_closed() -> None:
    owned = OwnedStorage("memory://")
    await owned.open()
    await owned.storage.now()
    await owned.close()
    with pytest.raises(ClosedError):
        await owned.storage.now()


async def test_a_storage_object_is_left_alone() -> None:
    async with MemoryQueueStorage() as storage:
        owned = OwnedStorage(storage)
        await owned.open()
        await owned.close()
        await owned.storage.now()


async def test_an_owned_storage_object_is_opened_and_closed() -> None:
    owned = OwnedStorage(MemoryQueueStorage(), owned=True)
    await owned.open()
    await owned.storage.now()
    await owned.close()
    with pytest.raises(ClosedError):
        await owned.storage.now()


def test_the_default_is_the_url_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBQ_STORAGE", "memory://")
    assert isinstance(OwnedStorage(None).storage, MemoryQueueStorage)
    monkeypatch.delenv("JOBQ_STORAGE")
    with pytest.raises(ConfigurationError, match="set JOBQ_STORAGE"):
        OwnedStorage(None)
