"""Who opens and closes a storage: the one who got its URL, never the one who got the object."""

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


async def test_an_object_made_for_the_owner_alone_is_opened_and_closed() -> None:
    owned = OwnedStorage(MemoryQueueStorage(), owned=True)
    await owned.open()
    await owned.storage.now()
    await owned.close()
    with pytest.raises(ClosedError):
        await owned.storage.now()


def test_without_a_storage_the_environment_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBQ_STORAGE", "memory://")
    assert isinstance(OwnedStorage(None).storage, MemoryQueueStorage)
    monkeypatch.delenv("JOBQ_STORAGE")
    with pytest.raises(ConfigurationError, match="set JOBQ_STORAGE"):
        OwnedStorage(None)
