from __future__ import annotations

from django.db import connection, transaction
from shop_jobs import add_up

from jobq_client import SyncJobHandle, SyncJobQueueClient
from shop_django.models import Order


def place_order(client: SyncJobQueueClient, number: int) -> SyncJobHandle[int]:
    """Store an order and the job for it, both or none."""
    with transaction.atomic():
        Order.objects.create(number=number)
        return client.add(add_up(a=number, b=1), connection=connection)
