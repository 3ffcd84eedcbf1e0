"""Any history at all, the store against the model; `KELPIE_TEST_EXAMPLES=2000` makes a long run."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import hypothesis
from hypothesis import strategies as some
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kelpie.store import endings, writer
from tests.store.histories import World
from tests.store.model import NOTHING, Model, Work

_Result = TypeVar("_Result")
_EXAMPLES = int(os.environ.get("KELPIE_TEST_EXAMPLES", "0"))
_MOST_JOBS = 6
_MACHINES = ["m1", "m2", "m3", "m4"]
_FINAL = {"completed", "failed", "canceled"}

machines = some.sampled_from(_MACHINES)
jobs = some.integers(0, _MOST_JOBS - 1)
reporters = some.sampled_from(["holder", "holder", "holder", *_MACHINES])
numbers = some.sampled_from(["newest", "newest", "newest", "legacy", "legacy", "older", "newer"])
keys = some.sampled_from(["user", "user", "user", "worker", "other"])
claim_ids = some.sampled_from(["", "", "c1", "c2"])
versions = some.sampled_from(["", "1"])


class Histories(RuleBasedStateMachine):
    """Submissions, machines and accidents in any order."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.new_event_loop()
        self._directory = tempfile.TemporaryDirectory(prefix="kelpie-histories-")
        self._world = World(Path(self._directory.name) / "kelpie.db")
        self._model = Model()
        self._seen: dict[str, tuple[str, int]] = {}
        # Jitter is the one thing a model cannot know.
        self._patches: list[Any] = [
            mock.patch.object(endings, "_JITTER", 0.0),
            mock.patch.object(writer, "log"),
        ]
        for patch in self._patches:
            patch.start()

    def teardown(self) -> None:
        for patch in self._patches:
            patch.stop()
        self._run(self._world.close())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()
        self._directory.cleanup()

    @initialize()
    def open(self) -> None:
        self._run(self._world.open())
        self._tick()
        self._model.greet()

    @precondition(lambda self: len(self._model.works) < _MOST_JOBS)
    @rule(
        priority=some.sampled_from([0, 0, -1, 3]),
        interval=some.sampled_from([1, 1, 5, 40]),
        delay=some.sampled_from([0, 0, 5, 100]),
        max_failures=some.sampled_from([1, 2, 3]),
        max_interruptions=some.sampled_from([0, 1, 2, 20]),
    )
    def submit(
        self, priority: int, interval: int, delay: int, max_failures: int, max_interruptions: int
    ) -> None:
        name = f"j{len(self._model.works)}"
        self._tick()
        self._do(
            f"submit {name} priority={priority} heartbeat_interval={interval} retry_delay_s={delay}"
            f" max_failures={max_failures} max_interruptions={max_interruptions}"
        )
        self._model.works[name] = Work(
            name, priority, interval * 1000, delay * 1000, max_failures, max_interruptions
        )

    @rule(machine=machines, claim_id=claim_ids, version=versions)
    def claim(self, machine: str, claim_id: str, version: str) -> None:
        self._tick()
        self._settle_claim(machine, claim_id, self._do(_claim(machine, claim_id, version)))

    @rule(job=jobs, crowd=some.lists(machines, min_size=1, max_size=4), who=reporters, number=numbers)
    def claims_and_a_heartbeat_in_one_batch(self, job: int, crowd: list[str], who: str, number: str) -> None:
        steps = [_claim(machine, "", "1") for machine in crowd]
        spoken = self._report(job, who, number)
        if spoken is not None:
            work, machine, attempt = spoken
            steps.append(f"heartbeat {work.name} {machine} {attempt or ''}")
        self._tick()
        together = (asyncio.ensure_future(self._world.do(step), loop=self._loop) for step in steps)
        answers = self._loop.run_until_complete(asyncio.gather(*together))
        if spoken is not None:
            assert answers.pop() == self._model.heartbeat(*spoken, is_fruitful=False)
        for machine, answer in zip(crowd, answers, strict=True):
            self._settle_claim(machine, "", answer)

    @rule(job=jobs, who=reporters, number=numbers, key=keys, progress=some.sampled_from(["", "0.5"]))
    def heartbeat(self, job: int, who: str, number: str, key: str, progress: str) -> None:
        self._say("heartbeat", (job, who, number), key, f"progress={progress}", is_fruitful=bool(progress))

    @rule(job=jobs, who=reporters, number=numbers, key=keys)
    def completed(self, job: int, who: str, number: str, key: str) -> None:
        self._say("completed", (job, who, number), key, may_submit=key == "user")

    @rule(job=jobs, who=reporters, number=numbers, key=keys, reason=some.sampled_from(["exit", "upload"]))
    def failed(self, job: int, who: str, number: str, key: str, reason: str) -> None:
        facts = {"may_submit": key == "user", "bans": reason == "exit"}
        machine = self._say("failed", (job, who, number), key, f"reason={reason}", **facts)
        self.claim(machine, "", "1")

    @rule(job=jobs, who=reporters, number=numbers, key=keys)
    def interrupted(self, job: int, who: str, number: str, key: str) -> None:
        self._say("interrupted", (job, who, number), key)

    @precondition(lambda self: self._model.works)
    @rule(job=jobs)
    def cancel(self, job: int) -> None:
        work = self._work(job)
        self._tick()
        assert self._do(f"cancel {work.name}") == self._model.cancel(work)

    @rule(ms=some.sampled_from([1, 250, 999, 1000, 1999, 2000, 5000, 31_000, 101_000]))
    def time_passes(self, ms: int) -> None:
        self._pass_time(ms)

    @rule(others=some.lists(machines, max_size=2), ms=some.sampled_from([541_000, 601_000]))
    def minutes_pass_while_some_machines_poll(self, others: list[str], ms: int) -> None:
        self._pass_time(ms)
        for machine in others:
            self.claim(machine, "", "1")

    @rule(ms=some.sampled_from([1000, 1999, 2000, 2001, 9000, 80_000, 3_600_000]))
    def server_stands_still(self, ms: int) -> None:
        self._world.clock.pass_time(ms)

    @rule(seconds=some.sampled_from([-86_400, -3600, -5, 5, 3600, 86_400]))
    def wall_clock_jumps(self, seconds: int) -> None:
        self._do(f"wall {seconds}")

    @rule()
    def upkeep(self) -> None:
        self._tick()
        self._do("sweep")
        self._model.sweep()

    @rule()
    def server_restarts(self) -> None:
        # A running server notices a jump of the wall clock within a second.
        self._pass_time(1000)
        self._do("restart")
        self._model.greet()
        self._pass_time(1500)

    @invariant()
    def store_and_model_agree(self) -> None:
        rows = self._all("SELECT job_id, status, attempt, num_failures, num_interruptions FROM jobs")
        outcomes: dict[str, list[str]] = {job_id: [] for job_id, *_ in rows}
        for job_id, outcome in self._all(
            "SELECT job_id, coalesce(outcome, 'live') FROM attempts JOIN jobs USING (job_seq)"
            " ORDER BY job_seq, attempts.attempt"
        ):
            outcomes[job_id].append(outcome)
        found = {job_id: (*row, outcomes[job_id]) for job_id, *row in rows}
        assert found == {
            self._world.ids[name]: (
                work.status, len(work.tries), work.failures, work.interruptions,
                [one.outcome for one in work.tries],
            )
            for name, work in self._model.works.items()
        }  # fmt: skip

    @invariant()
    def a_running_job_has_one_holder_with_a_lease_and_any_other_has_none(self) -> None:
        assert not self._world.fatal
        wrong = self._all(
            """
            SELECT jobs.job_id, jobs.status, count(live.attempt) FROM jobs
            LEFT JOIN attempts AS live ON live.job_seq = jobs.job_seq AND live.outcome IS NULL
            GROUP BY jobs.job_seq
            HAVING count(live.attempt) <> (jobs.status = 'running')
                OR (jobs.status = 'running') <> (jobs.lease_expires IS NOT NULL)
                OR (jobs.status = 'running'
                    AND (live.attempt, live.machine_id) <> (jobs.attempt, jobs.machine_id))
            """
        )
        assert wrong == []

    @invariant()
    def numbers_grow_and_what_has_ended_stays_so(self) -> None:
        for job_id, status, attempt in self._all("SELECT job_id, status, attempt FROM jobs"):
            old_status, old_attempt = self._seen.get(job_id, ("pending", 0))
            assert attempt >= old_attempt
            assert old_status not in _FINAL or status == old_status
            self._seen[job_id] = (status, attempt)

    @invariant()
    def the_events_of_a_job_lead_to_its_state(self) -> None:
        state = {job_id: "pending" for (job_id,) in self._all("SELECT job_id FROM jobs")}
        failures = dict.fromkeys(state, 0)
        for job_id, kind, source, target in self._all(
            "SELECT job_id, kind, source, target FROM events JOIN jobs USING (job_seq) ORDER BY event_id"
        ):
            assert source == state[job_id], kind
            state[job_id] = target
            failures[job_id] += kind == "failed"
        rows = self._all("SELECT job_id, status, num_failures FROM jobs")
        assert {job_id: (status, count) for job_id, status, count in rows} == {
            job_id: (state[job_id], failures[job_id]) for job_id in state
        }

    def _say(self, verb: str, told: tuple[int, str, str], key: str, *words: str, **facts: bool) -> str:
        spoken = self._report(*told)
        if spoken is None:
            return "m1"
        work, machine, attempt = spoken
        self._tick()
        answer = self._do(" ".join([verb, work.name, machine, str(attempt or ""), f"by={key}", *words]))
        known = None if key == "other" else work
        expected = getattr(self._model, verb)(known, machine, attempt, **facts)
        assert answer == expected, f"{verb} {work.name} {machine} {attempt}"
        return machine

    def _report(self, job: int, who: str, number: str) -> tuple[Work, str, int | None] | None:
        if not self._model.works:
            return None
        work = self._work(job)
        newest = len(work.tries)
        machine = who if who != "holder" else work.tries[-1].machine if work.tries else "m1"
        attempt = {"newest": newest or 1, "older": max(newest - 1, 1), "newer": newest + 1}.get(number)
        return work, machine, attempt

    def _settle_claim(self, machine: str, claim_id: str, answer: str) -> None:
        name, _, attempt = answer.partition(" ")
        assert name in self._model.claimable(machine, claim_id)
        if name != NOTHING:
            assert self._model.claim(name, machine, claim_id) == int(attempt)

    def _pass_time(self, ms: int) -> None:
        while ms > 0:
            step = min(ms, 1000)
            ms -= step
            self._world.clock.pass_time(step)
            self.upkeep()

    def _tick(self) -> None:
        self._model.now, self._model.wall = self._world.clock.boot, self._world.clock.wall
        self._model.begin()

    def _work(self, job: int) -> Work:
        works = list(self._model.works.values())
        return works[job % len(works)]

    def _do(self, step: str) -> str:
        return self._run(self._world.do(step))

    def _all(self, sql: str) -> list[Any]:
        return self._world.store.database._reader.execute(sql).fetchall()  # noqa: SLF001 - no thread hop a step

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return self._loop.run_until_complete(work)


def _claim(machine: str, claim_id: str, version: str) -> str:
    return f"claim {machine} version={version}" + (f" claim_id={claim_id}" if claim_id else "")


def test_any_history_keeps_the_rules() -> None:
    """Whatever happens in whatever order, the store does as the model, and no rule is broken."""
    run_state_machine_as_test(
        Histories,
        settings=hypothesis.settings(
            max_examples=_EXAMPLES or 100,
            stateful_step_count=40,
            derandomize=not _EXAMPLES,
            database=None,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
