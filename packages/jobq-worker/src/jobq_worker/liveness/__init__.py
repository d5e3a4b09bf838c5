"""Whether a worker and its event loop are alive, and whether its runs may go on."""
