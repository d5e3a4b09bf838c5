"""The proxy drops exactly the messages that a test asks it to drop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from proxy import Proxy


@pytest.fixture
def proxy(postgres_server: Any) -> Iterator[Proxy]:
    with Proxy(postgres_server.dsn) as proxy:
        yield proxy


def connect(proxy: Proxy) -> psycopg.Connection[Any]:
    return psycopg.connect(proxy.url, connect_timeout=5, autocommit=True, application_name="proxied")


def rows(server: Any, table: str) -> int:
    with psycopg.connect(server.dsn) as connection:
        found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
        return int(found[0]) if found else -1


def wait_for_sessions_to_end(server: Any) -> None:
    """Wait until the server has executed everything it received, and has closed the sessions."""
    ends = time.monotonic() + 30
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'proxied'"
        while connection.execute(others).fetchone() != (0,):
            assert time.monotonic() < ends


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + 30
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.005)  # the change is in another thread's counter, or in the server


@pytest.fixture
def table(postgres_server: Any) -> Iterator[str]:
    with psycopg.connect(postgres_server.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE lost_and_found (n int)")
        yield "lost_and_found"
        connection.execute("DROP TABLE lost_and_found")


def test_the_proxy_forwards_and_counts_all_messages(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        assert connection.execute("SELECT %s::int + 1", [41]).fetchone() == (42,)
        with connection.pipeline():
            cursors = [connection.execute("SELECT %s::int", [n]) for n in range(100)]
        assert [cursor.fetchone() for cursor in cursors] == [(n,) for n in range(100)]
        assert connection.execute("SELECT repeat('x', 3000000)").fetchone() == ("x" * 3_000_000,)
    assert proxy.sent["START"] == proxy.connections == 1
    assert proxy.sent["B"] == 101
    assert proxy.answered["Z"] >= 3


@pytest.mark.parametrize(("after", "kept"), [(False, 0), (True, 1)], ids=["before", "after"])
def test_a_client_message_is_lost_or_its_answer_is_lost(
    proxy: Proxy, postgres_server: Any, table: str, after: bool, kept: int
) -> None:
    with connect(proxy) as connection:
        connection.execute("SELECT 1")
        cut = proxy.cut("Q", after=after, text=b"INSERT")
        with pytest.raises(psycopg.OperationalError):
            connection.execute(f"INSERT INTO {table} VALUES (1)")
        cut.wait()
    wait_for_sessions_to_end(postgres_server)
    assert rows(postgres_server, table) == kept


def test_a_lost_answer_leaves_the_statement_executed(proxy: Proxy, postgres_server: Any, table: str) -> None:
    with connect(proxy) as connection:
        cut = proxy.cut_answer("Z")
        with pytest.raises(psycopg.OperationalError):
            connection.execute(f"INSERT INTO {table} VALUES (1)")
        cut.wait()
    assert rows(postgres_server, table) == 1


def test_a_black_hole_drops_answers_and_later_connections_work(proxy: Proxy, table: str, postgres_server: Any) -> None:
    with connect(proxy) as connection:
        with proxy.black_hole():
            connection.pgconn.send_query(f"INSERT INTO {table} VALUES (1)".encode())
            ends = time.monotonic() + 30
            while rows(postgres_server, table) == 0:
                assert time.monotonic() < ends
        assert connection.pgconn.is_busy()
        connection.close()
    with connect(proxy) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_black_hole_for_both_directions_drops_all_messages_for_good(
    proxy: Proxy, table: str, postgres_server: Any
) -> None:
    with connect(proxy) as connection:
        connection.execute("SELECT 1")
        seen = proxy.sent["Q"]
        with proxy.black_hole(both=True):
            connection.pgconn.send_query(f"INSERT INTO {table} VALUES (1)".encode())
            until(lambda: proxy.sent["Q"] > seen)
        connection.close()
    wait_for_sessions_to_end(postgres_server)
    assert rows(postgres_server, table) == 0


def test_a_black_hole_can_begin_at_an_answer(proxy: Proxy) -> None:
    with connect(proxy) as connection, proxy.black_hole(since=b"and now") as hole:
        assert connection.execute("SELECT 'not yet'").fetchone() == ("not yet",)
        connection.pgconn.send_query(b"SELECT 'and now'")
        hole.wait()
        assert connection.pgconn.is_busy()
        connection.close()


def test_held_back_messages_arrive_after_the_client_has_gone(proxy: Proxy, table: str, postgres_server: Any) -> None:
    with connect(proxy) as connection:
        connection.execute("SELECT 1")
        seen = proxy.sent["Q"]
        with proxy.held_back():
            connection.pgconn.send_query(f"INSERT INTO {table} VALUES (1)".encode())
            until(lambda: proxy.sent["Q"] > seen)
            connection.close()
            assert rows(postgres_server, table) == 0
        until(lambda: rows(postgres_server, table) == 1)
    assert proxy.late["Q"] == 1


def test_the_proxy_refuses_and_breaks_connections(proxy: Proxy) -> None:
    with connect(proxy) as connection:
        proxy.refuse = True
        with pytest.raises(psycopg.OperationalError):
            connect(proxy)
        proxy.break_all()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    proxy.heal()
    with connect(proxy) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
