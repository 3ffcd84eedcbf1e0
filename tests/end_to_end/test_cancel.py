"""`kelpie cancel` stops everything a job runs, wherever it hides."""

from __future__ import annotations

from kelpie.lifecycle import JobStatus, Outcome
from tests.end_to_end.patience import until
from tests.end_to_end.stage import Stage

# A family: a child that ignores SIGINT, a grandchild, and one in a session of its own.
FAMILY = """
sh -c 'trap "" INT TERM; sh -c "sleep 1000; :" & while :; do sleep 0.1; done' &
setsid sh -c 'setsid sleep 1000; :' &
say starts
hold never
"""


async def test_a_canceled_job_leaves_no_process_behind(stage: Stage) -> None:
    """The whole tree is gone within the job's grace, and the worker takes the next job."""
    machine = stage.machine("a")
    job = await stage.submit(FAMILY, stop_grace_s=0.5)
    await stage.until_said("starts")
    family = await until("the whole family", lambda: len(found := machine.commands()) >= 6 and found)
    following = await stage.submit("say next; hold go")
    assert (await stage.kelpie("cancel", job.id)).code == 0
    await stage.until_said("next")
    assert not machine.commands() & set(family or ())
    stage.release("go")
    await stage.completed(following)
    assert (await stage.client.job(job.id)).status is JobStatus.CANCELED
    assert await stage.outcomes(job) == [Outcome.CANCELED]


async def test_a_canceled_script_may_clean_up(stage: Stage) -> None:
    """It gets SIGINT as from a terminal, and what it still stores is in the bucket; it stays canceled."""
    stage.machine("a")
    script = "trap 'put checkpoint/step last; exit 0' INT; say starts; hold never"
    job = await stage.submit(script, sync=stage.sync(checkpoint="checkpoint"))
    await stage.until_said("starts")
    assert (await stage.kelpie("cancel", job.id)).code == 0
    await stage.until_stored("checkpoint/step", b"last")
    assert (await stage.client.job(job.id)).status is JobStatus.CANCELED


async def test_a_pending_job_that_is_canceled_never_starts(stage: Stage) -> None:
    """A worker that comes later gets the next one."""
    job = await stage.submit("say starts")
    assert (await stage.kelpie("cancel", job.id)).code == 0
    following = await stage.submit("say next")
    stage.machine("a")
    await stage.completed(following)
    assert stage.said("starts") == []
    assert await stage.attempts(job) == []
