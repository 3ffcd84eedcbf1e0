"""What this worker was told to do about its own end: drain, or leave within the shutdown grace."""

from __future__ import annotations

import asyncio
import math

import structlog

from kelpie.worker.clock import boottime
from kelpie.worker.outcome import Why

_CHILD_SHARE = 0.6
_REPORT_S = 2.0
_REPORT_SHARE = 0.2  # of a grace too short for `_REPORT_S`
_LAST_S = 0.25
_log = structlog.get_logger(__name__)


class Notice:
    """The word to stop, and who gets how much of the time that is left; all times are boot times."""

    def __init__(self, shutdown_grace_s: float) -> None:
        self._grace_s = shutdown_grace_s
        self._since = math.inf
        self.why = Why.NOTICE
        self.no_more_claims = asyncio.Event()
        self.leaving = asyncio.Event()

    def leave(self) -> None:
        """The machine goes away (SIGTERM): stop the job and give it back."""
        self._leave(Why.NOTICE)

    def drain(self) -> None:
        """Finish the job and then exit (SIGINT); asked twice, give the job back."""
        if self.no_more_claims.is_set():
            self._leave(Why.DRAIN)
            return
        _log.info("draining", hint="The current job is finished first; interrupt again to give it back.")
        self.no_more_claims.set()

    @property
    def child_until(self) -> float:
        """When a child that was told to stop must be gone."""
        return self._since + _CHILD_SHARE * self._grace_s

    @property
    def writes_until(self) -> float:
        """When nothing may be written any more, so that the report still gets out."""
        return self._since + self._grace_s - min(_REPORT_S, _REPORT_SHARE * self._grace_s)

    @property
    def reports_until(self) -> float:
        """When trying to report is over."""
        return self._since + self._grace_s - min(_LAST_S, _REPORT_SHARE * self._grace_s / 2)

    def _leave(self, why: Why) -> None:
        if self.leaving.is_set():
            return
        _log.info("leaving", why=why, grace_s=self._grace_s)
        self.why, self._since = why, boottime()
        self.no_more_claims.set()
        self.leaving.set()
