"""Deterministic simulation: whole workers and clients on one memory storage, in virtual time, interleaved by a seed.

    world      virtual time, and the choice of the process that runs next, drawn from the seed
    process    a process: an event loop and a heartbeat thread; it can be paused (SIGSTOP), blocked or killed
    machine    simulated clocks, ids and random numbers for jobq's modules
    channel    the QueueStorage of a process: answers are late or lost, notifications are lost
    truth      what the storage holds, checked at each operation
    journal    what the handlers and clients saw, and the violations found
    scenario   the plan of a schedule, drawn from the mode and the seed
    schedule   one schedule, from its start to its verdict

`python tests-integration/faults/simulation --seed 7` shows the schedule of seed 7.
"""
