"""Logs: what they must never do to the process that writes them."""

from __future__ import annotations

import contextlib
import sys

import pytest
import structlog

from kelpie.logs import configure_logs


def test_a_log_that_cannot_be_written_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may lie on the very disk whose fullness it tells of, and callers wait behind it."""
    full = open("/dev/full", "w", buffering=1, encoding="utf-8")  # noqa: PTH123, SIM115 - closing it fails, too
    monkeypatch.setattr(sys, "stderr", full)
    configure_logs("info")
    try:
        structlog.get_logger().error("batch_failed")
    finally:
        structlog.reset_defaults()
        with contextlib.suppress(OSError):
            full.close()
