"""A model of claim, heartbeat, rescue, settle and abort, small enough to visit every state.

    model     the states and steps: the storage, the workers, the calls and answers between them
    mutants   the model without one rule each; the exploration must find each omission
    explore   breadth-first search through all states, for the shortest path to a broken promise

It is not written in TLA+, because no package registry that the tests use has a TLA+ checker.
"""
