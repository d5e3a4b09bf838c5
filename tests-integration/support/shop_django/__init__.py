"""A Django app that adds jobs in its own transactions, with its tests."""
