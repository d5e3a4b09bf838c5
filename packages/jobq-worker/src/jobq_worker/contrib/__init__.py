"""Middleware for other packages, which must be installed: each module imports the package that it is named after."""
