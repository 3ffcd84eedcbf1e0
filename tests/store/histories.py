"""Histories: what happens to jobs, one step a line, against a real store with a clock that tests move.

    submit a max_failures=1        -> a
    claim m1                       -> a 1
    advance 2.001
    heartbeat a m1 1               -> running

A report without an attempt number is a legacy worker's. `by=` names the key:
`user` (the default), `worker`, `bound` (to the group `elsewhere`), `admin`,
`other` (another user). A line without `->` may answer whatever it likes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from kelpie.contract import Checkpoint, Completion, Failure, Interruption, Job, JobSpec, Progress, Scope
from kelpie.errors import KelpieError
from kelpie.server.submission import check_one
from kelpie.store import endings, jobs
from kelpie.store.access import Caller, bootstrap
from kelpie.store.claims import Claim, Policy, claim
from kelpie.store.leases import Sign, heartbeat
from kelpie.store.relations import NewJob
from kelpie.store.reports import Speaker
from kelpie.store.retries import retry
from kelpie.store.store import Store, open_store
from kelpie.store.submissions import submit
from kelpie.store.sweep import sweep_once
from kelpie.store.transaction import Wake
from kelpie.store.writer import Order

GROUP = "g"
_MIB = 1 << 20
_TICK_MS = 1000
_START_MS = 1_700_000_000_000
_SCOPES: dict[str, Scope] = {"worker": "worker", "bound": "worker", "admin": "admin"}


class FakeClock:
    """A clock that tests move."""

    def __init__(self) -> None:
        self.wall = _START_MS
        self.boot = 5_000_000

    def wall_ms(self) -> int:
        """Milliseconds of wall time."""
        return self.wall

    def boot_ms(self) -> int:
        """Milliseconds since boot."""
        return self.boot

    def pass_time(self, ms: int) -> None:
        """Let time pass for both clocks."""
        self.wall += ms
        self.boot += ms


def new_job(**fields: Any) -> NewJob:
    """Make a checked submission."""
    spec = msgspec.convert({"command": "true", "container_group_id": GROUP, **fields}, JobSpec)
    return check_one(spec, max_bytes=_MIB)


class World:
    """A store, its clock, two users and their keys."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = FakeClock()
        self.wakes: list[Wake] = []
        self.fatal: list[str] = []
        self.ids: dict[str, str] = {"unknown": "no-such-job"}
        self._store: Store | None = None

    @property
    def store(self) -> Store:
        """The open store."""
        assert self._store is not None
        return self._store

    async def open(self) -> None:
        """Open the store, as a server that starts would."""
        self._store = await open_store(
            self.path, Policy(), on_commit=self.wakes.extend, on_fatal=self.fatal.append, clock=self.clock
        )
        await bootstrap(self.store.database, "an-admin-key-for-tests")
        await self.store.database.write(
            Order.SUBMIT,
            lambda transaction: transaction.run(
                "INSERT OR IGNORE INTO users (user_seq, user_id, username, created)"
                " VALUES (11, 'u', 'user', 0), (12, 'o', 'other', 0)"
            ),
        )

    async def close(self) -> None:
        """Close the store."""
        await self.store.close()

    def caller(self, who: str = "user") -> Caller:
        """Make the caller that `by=` names."""
        return Caller(
            user_seq=12 if who == "other" else 11,
            user_id="o" if who == "other" else "u",
            username="other" if who == "other" else "user",
            key_seq=1 + len(who),
            key_id=who,
            scope=_SCOPES.get(who, "user"),
            container_group_id="elsewhere" if who == "bound" else None,
        )

    def job(self, name: str) -> Job:
        """Read a job."""
        return jobs.job(self.store.database, self.caller(), self.ids[name])

    async def advance(self, seconds: float) -> None:
        """Let time pass while upkeep does its rounds."""
        left = round(seconds * 1000)
        while left > 0:
            step = min(left, _TICK_MS)
            self.clock.pass_time(step)
            left -= step
            await sweep_once(self.store.database)

    async def do(self, step: str) -> str:
        """Do one step of a history and return its answer."""
        verb, *words = step.split()
        options = dict(word.split("=", 1) for word in words if "=" in word)
        plain = [word for word in words if "=" not in word]
        who = self.caller(options.pop("by", "user"))
        try:
            answer = await getattr(self, f"_{verb}")(who, *plain, **options)
        except KelpieError as error:
            return error.code
        return "" if answer is None else str(answer)

    async def _submit(self, who: Caller, name: str, **fields: str) -> str:
        given = {
            field: msgspec.json.decode(text)
            for field, text in fields.items()
            if field not in {"group", "needs"}
        }
        if "needs" in fields:
            given["after"] = [self.ids[needed] for needed in fields["needs"].split(",")]
        new = new_job(container_group_id=fields.get("group", GROUP), **given)
        done = await submit(self.store.database, who, [new], None)
        self.ids[name] = done.jobs[0].id
        return name

    async def _claim(
        self, who: Caller, machine: str, group: str = GROUP, claim_id: str | None = None, version: str = "1"
    ) -> str:
        asked = Claim(
            machine_id=machine, container_group_id=group, claim_id=claim_id, version=version or None
        )
        job = await claim(self.store.database, who, self.store.policy, self.store.polls, asked)
        if job is None:
            return "nothing"
        names = {job_id: name for name, job_id in self.ids.items()}
        return f"{names[job.id]} {job.attempt}"

    async def _heartbeat(
        self, who: Caller, name: str, machine: str, attempt: str = "", *, progress: str = "", stored: str = ""
    ) -> str:
        sign = Sign(
            progress=Progress(progress=float(progress)) if progress else None,
            checkpoint=Checkpoint(stored=stored) if stored else None,
        )
        answer = await heartbeat(self.store.database, who, self.ids[name], _speaker(machine, attempt), sign)
        return str(answer.status)

    async def _completed(self, who: Caller, name: str, machine: str, attempt: str = "") -> str:
        report = Completion(machine_id=machine, container_group_id=GROUP)
        verdict = await endings.complete(
            self.store.database, who, self.ids[name], _speaker(machine, attempt), report
        )
        return "applied" if verdict.is_applied else "ignored"

    async def _failed(
        self, who: Caller, name: str, machine: str, attempt: str = "", *, code: str = "1", reason: str = ""
    ) -> str:
        report = Failure(
            machine_id=machine, container_group_id=GROUP, exit_code=int(code), reason=reason or None
        )
        verdict = await endings.fail(
            self.store.database, who, self.ids[name], _speaker(machine, attempt), report
        )
        return "applied" if verdict.is_applied else "ignored"

    async def _interrupted(
        self, who: Caller, name: str, machine: str, attempt: str = "", *, stored: str = ""
    ) -> str:
        checkpoint = Checkpoint(stored=stored) if stored else None
        report = Interruption(machine_id=machine, container_group_id=GROUP, checkpoint=checkpoint)
        verdict = await endings.give_back(
            self.store.database, who, self.ids[name], _speaker(machine, attempt), report
        )
        return "applied" if verdict.is_applied else "ignored"

    async def _cancel(self, who: Caller, name: str) -> str:
        await endings.cancel(self.store.database, who, self.ids[name])
        return "done"

    async def _retry(self, who: Caller, name: str) -> str:
        return str((await retry(self.store.database, who, self.ids[name])).status)

    async def _status(self, _: Caller, name: str) -> str:
        return str(self.job(name).status)

    async def _counts(self, _: Caller, name: str) -> str:
        job = self.job(name)
        return f"{job.num_failures} failures {job.num_interruptions} interruptions"

    async def _outcomes(self, who: Caller, name: str) -> str:
        found = await jobs.attempts_of(self.store.database, who, self.ids[name])
        return " ".join(str(attempt.outcome or "live") for attempt in found.attempts)

    async def _reason(self, _: Caller, name: str) -> str:
        return str(self.job(name).reason)

    async def _advance(self, _: Caller, seconds: str) -> None:
        await self.advance(float(seconds))

    async def _stall(self, _: Caller, seconds: str) -> None:
        self.clock.pass_time(round(float(seconds) * 1000))

    async def _wall(self, _: Caller, seconds: str) -> None:
        self.clock.wall += round(float(seconds) * 1000)

    async def _sweep(self, _: Caller) -> None:
        await sweep_once(self.store.database)

    async def _restart(self, _: Caller) -> None:
        await self.close()
        await self.open()


def _speaker(machine: str, attempt: str) -> Speaker:
    return Speaker(machine_id=machine, attempt=int(attempt) if attempt else None)


async def replay(world: World, history: str) -> tuple[list[str], list[str]]:
    """Run a history and return what was expected and what happened, line by line."""
    expected, happened = [], []
    for line in history.strip().splitlines():
        step, arrow, answer = (part.strip() for part in line.partition("->"))
        given = await world.do(step)
        expected.append(f"{step} -> {answer}" if arrow else step)
        happened.append(f"{step} -> {given}" if arrow else step)
    return expected, happened
