"""Run by `python -m django test`, on SQLite and PostgreSQL: see test_django.py."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.test import TestCase, TransactionTestCase
from shop_jobs import add_up

from jobq_client import SyncJobQueueClient
from jobq_core import JobState, open_storage
from shop_django.models import Order
from shop_django.orders import place_order

client: SyncJobQueueClient


def setUpModule() -> None:
    global client
    name = connection.settings_dict["NAME"]  # of the test database
    if connection.vendor == "sqlite":
        url = f"sqlite:///{name}"
    else:
        url = urlsplit(settings.URL)._replace(path=f"/{name}").geturl()
    asyncio.run(open_storage(url).migrate())
    client = SyncJobQueueClient(url)
    client.start()


def tearDownModule() -> None:
    client.stop()


class InTransaction(TestCase):  # type: ignore[misc]
    """Each test runs in a transaction that is rolled back."""

    def test_a_job_is_seen_inside_the_transaction_and_not_outside(self) -> None:
        handle = place_order(client, 7)
        record = client.get(handle, connection=connection)
        assert record is not None
        assert record.state is JobState.PENDING
        assert client.get(handle) is None

    def test_the_jobs_of_other_tests_are_gone(self) -> None:
        for number in range(3):
            place_order(client, number)
        assert Order.objects.count() == 3
        assert client.size() == 0

    def test_a_block_that_fails_takes_its_job_along(self) -> None:
        place_order(client, 1)
        handles = []
        try:
            with transaction.atomic():
                handles.append(place_order(client, 2))
                place_order(client, 1)
        except IntegrityError:
            pass
        assert client.get(handles[0], connection=connection) is None
        assert [order.number for order in Order.objects.all()] == [1]

    def test_a_broken_transaction_refuses_as_for_any_query(self) -> None:
        with transaction.atomic():
            with pytest.raises(IntegrityError):
                Order.objects.create(number=None)
            with pytest.raises(transaction.TransactionManagementError):
                client.add(add_up(a=1, b=1), connection=connection)
            transaction.set_rollback(True)

    def test_jobs_are_aborted_and_retried(self) -> None:
        handle = place_order(client, 5)
        assert client.abort(handle, connection=connection)
        assert client.retry(handle, connection=connection)
        assert client.abort(handle, connection=connection)
        record = client.get(handle, connection=connection)
        assert record is not None
        assert record.state is JobState.ABORTED


class WithCommits(TransactionTestCase):  # type: ignore[misc]
    """Each test commits; the tables are emptied after it."""

    def test_a_committed_job_exists(self) -> None:
        handle = place_order(client, 7)
        assert client.get(handle) is not None
        with transaction.atomic():
            client.abort(handle, connection=connection)
            transaction.set_rollback(True)
        record = client.get(handle)
        assert record is not None
        assert record.state is JobState.PENDING
        assert client.delete(handle)

    def test_outside_of_a_block_a_job_is_added_at_once(self) -> None:
        handle = place_order(client, 8)
        assert client.abort(handle, connection=connection)
        record = client.get(handle)
        assert record is not None
        assert record.state is JobState.ABORTED
