"""A pool of jobq workers scaled live, and JobQueue, the whole queue in one object."""
