"""What a script says of its progress is what people see, and what the next attempt is told."""

from __future__ import annotations

import json

from kelpie.contract import RetryRule
from kelpie.lifecycle import Outcome
from tests.end_to_end.stage import Stage

SCRIPT = """
if [ "$KELPIE_ATTEMPT" = 2 ]; then say last "$KELPIE_LAST_PROGRESS"; exit 0; fi
say last "$KELPIE_LAST_PROGRESS"
echo 0.25 > "$KELPIE_PROGRESS_FILE"
hold half
echo '{"progress": 0.5, "step": 400, "message": "warming up"}' > "$KELPIE_PROGRESS_FILE"
hold go
exit 75
"""


async def test_progress_shows_while_the_job_runs_and_reaches_the_next_attempt(stage: Stage) -> None:
    """`kelpie show` has the newest number or object of the file; the next attempt finds it in a variable."""
    stage.machine("a")
    rules = [RetryRule(exit_codes=[75], action="interrupt")]
    job = await stage.submit(SCRIPT, retry_rules=rules)
    await stage.until_job(job, "is at 0.25", lambda seen: seen.progress and seen.progress.progress == 0.25)
    stage.release("half")
    await stage.until_job(job, "is at step 400", lambda seen: seen.progress and seen.progress.step == 400)
    shown = await stage.kelpie("show", "-o", "json", job.id)
    assert json.loads(shown.out)["job"]["progress"] == {
        "progress": 0.5,
        "step": 400,
        "message": "warming up",
    }
    assert "50%, step 400, warming up" in (await stage.kelpie("show", job.id)).out
    stage.release("go")
    await stage.completed(job)
    assert await stage.outcomes(job) == [Outcome.INTERRUPTED, Outcome.COMPLETED]
    before, after = (line.split(maxsplit=2)[2:] for line in stage.said("last"))
    assert before == []
    assert json.loads(after[0])["step"] == 400


async def test_progress_of_one_job_is_not_shown_on_the_next(stage: Stage) -> None:
    """Not even on one whose command cannot be started."""
    stage.machine("a")
    first = await stage.submit('echo 1.0 > "$KELPIE_PROGRESS_FILE"')
    await stage.completed(first)
    second = await stage.submit("true")
    broken = await stage.submit(command="no-such-command", max_failures=1)
    await stage.completed(second)

    assert (await stage.ended(broken)).progress is None
    assert (await stage.client.job(second.id)).progress is None
    assert (await stage.client.job(first.id)).progress is not None
