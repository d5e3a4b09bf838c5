"""Deterministic simulation: whole workers and clients over one memory storage, in virtual time, interleaved by a seed.

    world      virtual time, and which process goes on next: drawn by the seed
    process    an event loop per process, its heartbeat's thread; it can be held (SIGSTOP), blocked, or killed
    machine    the clocks, ids and random numbers that jobq's modules read, put under the world's control
    channel    the QueueStorage of a process: answers late, never, or after the lease is lost; loses notifications
    truth      what the storage really holds, watched at each operation
    journal    what the handlers and clients saw, and what must not have been
    scenario   who adds what and when, by mode and seed
    schedule   one run of all that, and its verdict

`python tests-integration/faults/simulation --seed 7` shows the schedule of seed 7.
"""
