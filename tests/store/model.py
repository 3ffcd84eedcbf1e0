"""What the rules in the life of a job say, as a model in memory: small, and with one clock.

Everything is measured in milliseconds since boot. So a jump of the wall clock
means nothing here except to the length of an attempt, which people read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

NOTHING = "nothing"
WINDOW_MS = 600_000
POLLS_ARE_STALE_BY_MS = 60_000
_LATE_MS = 2000
_SHORT_MS = 30_000
_FINAL = {"completed", "failed", "canceled"}


@dataclass
class Try:
    """One attempt; without an outcome it is live."""

    machine: str
    started: int
    claim_id: str
    outcome: str = "live"


@dataclass
class Ban:
    """A machine that is not offered a job; without an end it failed the job."""

    since: int
    until: int | None
    times: int = 1


@dataclass
class Work:
    """A job."""

    name: str
    priority: int
    interval_ms: int
    delay_ms: int
    max_failures: int
    max_interruptions: int
    status: str = "pending"
    tries: list[Try] = field(default_factory=list)
    bans: dict[str, Ban] = field(default_factory=dict)
    lease: int = 0
    not_before: int = 0
    failures: int = 0
    interruptions: int = 0
    fruitless: int = 0
    is_fruitful: bool = False

    def failed(self, machine: str) -> bool:
        """Whether the machine is banned for a failure."""
        return machine in self.bans and self.bans[machine].until is None

    def standing(self, machine: str, attempt: int | None) -> str:
        """What a reporter is to this job."""
        if not self.tries:
            return "outside" if self.status == "pending" else "stranger"
        newest = self.tries[-1]
        if newest.machine != machine or attempt not in {None, len(self.tries)}:
            return "stranger"
        if self.status == "running":
            return "holder"
        return "lost" if (self.status, newest.outcome) == ("pending", "lost") else "stranger"

    def has_said(self, machine: str, attempt: int | None, outcome: str) -> bool:
        """Whether an attempt ended with this very report."""
        if attempt is None or not 0 < attempt <= len(self.tries):
            return False
        said = self.tries[attempt - 1]
        return (said.machine, said.outcome) == (machine, outcome)


class Model:
    """All jobs of one user and group, and the machines that ask for them."""

    def __init__(self) -> None:
        self.now = 0
        self.wall = 0
        self.works: dict[str, Work] = {}
        self.polls: dict[str, int] = {}
        self._last_batch = 0

    def begin(self) -> None:
        """Make amends for a pause of the server's own before anything else happens."""
        gap = self.now - self._last_batch
        self._last_batch = self.now
        for work in self._running():
            work.lease += gap if gap > _LATE_MS else 0

    def greet(self) -> None:
        """Start anew: every running attempt gets a fresh lease."""
        self._last_batch = self.now
        for work in self._running():
            work.lease = self.now + 2 * work.interval_ms

    def sweep(self) -> None:
        """Lose the leases that ran out."""
        for work in self._running():
            if work.lease <= self.now:
                self._interrupt(work)
                work.tries[-1].outcome = "lost"

    def claimable(self, machine: str, claim_id: str) -> set[str]:
        """Sweep and name the jobs that a claim may get, `nothing` among them."""
        self.sweep()
        again = {work.name for work in self._running() if self._claimed(work, machine, claim_id)}
        if again:
            return again
        self.polls[machine] = self.now
        due = [
            work for work in self.works.values() if work.status == "pending" and work.not_before <= self.now
        ]
        due.sort(key=lambda work: -work.priority)
        for work in due:
            ban = work.bans.get(machine)
            if ban is None or (ban.until is not None and ban.until <= self.now):
                return {work.name}
        return set(self._stranded(due, machine))

    def claim(self, name: str, machine: str, claim_id: str) -> int:
        """Open an attempt, unless it is the same claim again; return its number."""
        work = self.works[name]
        if not (work.status == "running" and self._claimed(work, machine, claim_id)):
            work.tries.append(Try(machine, self.wall, claim_id))
            work.status, work.is_fruitful = "running", False
            work.lease = self.now + 2 * work.interval_ms
        return len(work.tries)

    def heartbeat(self, work: Work | None, machine: str, attempt: int | None, *, is_fruitful: bool) -> str:
        """Renew a lease, or say why not."""
        standing = work.standing(machine, attempt) if work else "stranger"
        if work and standing == "lost":
            work.status, work.tries[-1].outcome = "running", "live"
            work.interruptions = max(work.interruptions - 1, 0)
            work.fruitless = max(work.fruitless - 1, 0)
        if work and standing in {"holder", "lost"}:
            work.lease = self.now + 2 * work.interval_ms
            work.is_fruitful = work.is_fruitful or is_fruitful or attempt is None
            return "running"
        return self._refused(work, attempt) or self._legacy_answer(work, machine)

    def completed(self, work: Work | None, machine: str, attempt: int | None, *, may_submit: bool) -> str:
        """End a job well."""
        standing = work.standing(machine, attempt) if work else "stranger"
        from_outside = standing == "outside" and attempt is None and may_submit
        if work and (standing in {"holder", "lost"} or from_outside):
            self._end(work, "completed", "completed")
            return "applied"
        return self._unchanged(work, machine, attempt, "completed")

    def failed(
        self, work: Work | None, machine: str, attempt: int | None, *, may_submit: bool, bans: bool
    ) -> str:
        """Count a failure."""
        standing = work.standing(machine, attempt) if work else "stranger"
        from_outside = standing == "outside" and attempt is None and may_submit
        if work and from_outside and work.failed(machine):
            return "ignored"
        if work and (standing in {"holder", "lost"} or from_outside):
            work.failures += 1
            self._end(work, "failed" if work.failures >= work.max_failures else "pending", "failed")
            if work.status == "pending":
                work.not_before = self.now + _grown(work.delay_ms, work.failures)
            if bans or not work.tries:
                work.bans[machine] = Ban(self.now, None)
            return "applied"
        return self._unchanged(work, machine, attempt, "failed")

    def interrupted(self, work: Work | None, machine: str, attempt: int | None) -> str:
        """Give a job back."""
        standing = work.standing(machine, attempt) if work else "stranger"
        if not work or standing not in {"holder", "lost"}:
            return self._unchanged(work, machine, attempt, "interrupted")
        if standing == "holder":
            self._interrupt(work)
        work.tries[-1].outcome = "interrupted"
        self._hold_off(work, machine)
        return "applied"

    def cancel(self, work: Work) -> str:
        """Cancel a job that has not ended."""
        if work.status in {"completed", "failed"}:
            return "already-final"
        if work.status == "running":
            work.tries[-1].outcome = "canceled"
        work.status = "canceled"
        return "done"

    def _running(self) -> list[Work]:
        return [work for work in self.works.values() if work.status == "running"]

    @staticmethod
    def _claimed(work: Work, machine: str, claim_id: str) -> bool:
        return bool(claim_id) and (work.tries[-1].machine, work.tries[-1].claim_id) == (machine, claim_id)

    def _stranded(self, due: list[Work], machine: str) -> Iterator[str]:
        # When a machine polled last is on disk to the minute only, so near the edge both are right.
        for work in due:
            if not work.failed(machine) or work.bans[machine].since > self.now - WINDOW_MS:
                continue
            others = [self.now - at for who, at in self.polls.items() if not work.failed(who)]
            if any(age <= WINDOW_MS - POLLS_ARE_STALE_BY_MS for age in others):
                continue
            yield work.name
            if not any(age < WINDOW_MS for age in others):
                return
        yield NOTHING

    @staticmethod
    def _interrupt(work: Work) -> None:
        work.interruptions += 1
        work.fruitless = 0 if work.is_fruitful else work.fruitless + 1
        is_hopeless = not work.is_fruitful and 0 < work.max_interruptions <= work.fruitless
        work.status = "failed" if is_hopeless else "pending"

    def _hold_off(self, work: Work, machine: str) -> None:
        ban = work.bans.get(machine)
        if ban is not None and ban.until is None:
            return
        if self.wall - work.tries[-1].started >= _SHORT_MS:
            work.bans.pop(machine, None)
            return
        times = ban.times + 1 if ban else 1
        work.bans[machine] = Ban(self.now, self.now + _grown(work.delay_ms, times), times)

    @staticmethod
    def _end(work: Work, status: str, outcome: str) -> None:
        work.status = status
        if work.tries:
            work.tries[-1].outcome = outcome

    def _unchanged(self, work: Work | None, machine: str, attempt: int | None, outcome: str) -> str:
        if work and work.has_said(machine, attempt, outcome):
            return "applied"
        return self._refused(work, attempt) or "ignored"

    @staticmethod
    def _refused(work: Work | None, attempt: int | None) -> str:
        if attempt is None:
            return ""
        return "lease-lost" if work else "not-found"

    @staticmethod
    def _legacy_answer(work: Work | None, machine: str) -> str:
        if work is None:
            return "canceled"
        if work.status in _FINAL:
            return work.status
        mine = [one.outcome for one in work.tries if one.machine == machine]
        has_failed = mine[-1] == "failed" if mine else not work.tries and work.failed(machine)
        return "pending" if work.status == "pending" and has_failed else "canceled"


def _grown(delay_ms: int, times: int) -> int:
    doubled = delay_ms << (times - 1)
    return min(doubled, 300_000)
