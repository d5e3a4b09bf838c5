"""Storages driven alike: a model that says what they must answer, and the parties that are asked."""
