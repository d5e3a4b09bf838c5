"""The runs of a worker: from a claimed job to the end of its handler."""
