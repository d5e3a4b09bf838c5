"""The jobs of the shop, which its web app adds and its workers run. It imports neither."""

from __future__ import annotations

import hashlib

from jobq_core import job


@job(queue="mail", max_attempts=5, timeout=30)
async def send_receipt(order_id: int) -> str:
    """Send the receipt of an order."""
    return f"receipt of order {order_id} sent"


@job(queue="reports", timeout=600, executor="process")
def close_day(day: str) -> str:
    """Compute the figures of a day, on a core of its own."""
    return hashlib.sha256(day.encode()).hexdigest()
