"""Claim and run jobq jobs."""
