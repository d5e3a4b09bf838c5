"""A small shop: what the files in `examples/deploy` deploy. Put your own package in its place."""
