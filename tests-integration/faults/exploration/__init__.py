"""A model of claim, heartbeat, rescue, settle and abort, small enough to be explored to its last state.

    model     the states, and every step that may follow from one: storage, workers, what is on its way between them
    mutants   the same with a rule left out, to see that the exploration finds it
    explore   breadth first through all states; the shortest way to a broken promise

Not in TLA+, since no registry that the tests install from serves a checker for it.
"""
