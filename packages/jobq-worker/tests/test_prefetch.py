from __future__ import annotations

from jobq_worker.claiming.prefetch import MOST, MOST_BYTES, Prefetch


def test_the_buffer_holds_the_work_of_a_twentieth_of_a_second() -> None:
    prefetch = Prefetch()
    assert prefetch.size == 0
    prefetch.observe(10, 0.1, 200, slots=10)  # 10 ms each
    assert prefetch.size == 50
    prefetch.observe(1000, 0.01, 20_000, slots=10)  # 10 µs each: quicker counts slowly
    assert prefetch.size == 99
    for _ in range(20):
        prefetch.observe(1000, 0.01, 20_000, slots=10)
    assert prefetch.size == MOST
    prefetch.observe(1, 5.0, 20, slots=10)  # a long one counts at once
    assert prefetch.size == 0


def test_even_one_slot_has_a_full_buffer_of_short_jobs() -> None:
    prefetch = Prefetch()
    prefetch.observe(1000, 0.01, 20_000, slots=1)
    assert prefetch.size == MOST


def test_large_jobs_do_not_fill_the_memory() -> None:
    prefetch = Prefetch()
    prefetch.observe(100, 0.001, 100 * 256 * 1024, slots=100)
    assert prefetch.size * 256 * 1024 == MOST_BYTES
