"""The shutdown grace, shared out: the child its part, the flush the rest, and the report gets through."""

from __future__ import annotations

import math

import pytest

from kelpie.worker.clock import boottime
from kelpie.worker.notice import Notice
from kelpie.worker.outcome import Why


@pytest.mark.parametrize(
    ("grace_s", "child_s", "writes_s"), [(25, 15, 23), (10, 6, 8), (5, 3, 4), (2, 1.2, 1.6), (600, 360, 598)]
)
def test_the_grace_is_shared_out(grace_s: float, child_s: float, writes_s: float) -> None:
    """60 % for the child; two seconds are kept for the report, less of a very short grace."""
    notice = Notice(grace_s)
    before = boottime()
    notice.leave()
    after = boottime()
    assert before + child_s <= notice.child_until <= after + child_s
    assert before + writes_s <= notice.writes_until <= after + writes_s
    assert notice.writes_until < notice.reports_until < after + grace_s


def test_without_a_notice_nothing_is_limited() -> None:
    """Uploads may take hours."""
    notice = Notice(25)
    assert notice.child_until == notice.writes_until == notice.reports_until == math.inf


def test_a_second_notice_does_not_extend_the_first() -> None:
    """The machine's clock runs from the first."""
    notice = Notice(25)
    notice.leave()
    until = notice.writes_until
    notice.leave()
    notice.drain()
    assert (notice.writes_until, notice.why) == (until, Why.NOTICE)


def test_draining_twice_is_leaving() -> None:
    """Whoever interrupts twice does not want to wait."""
    notice = Notice(25)
    notice.drain()
    assert not notice.leaving.is_set()
    notice.drain()
    assert notice.leaving.is_set()
    assert notice.why is Why.DRAIN
