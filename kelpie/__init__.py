"""Kelpie shepherds long jobs to completion on machines that vanish."""

__version__ = "0.1.0"
