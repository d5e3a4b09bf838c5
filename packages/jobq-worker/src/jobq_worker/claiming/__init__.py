"""What to claim, and when: the fetcher, which also settles, and what it asks."""
