"""A worker that cannot work says why, once, in a sentence."""

from __future__ import annotations

from tests.end_to_end.link import Link
from tests.end_to_end.patience import until
from tests.end_to_end.stage import Stage


async def test_a_worker_keeps_trying_a_server_it_cannot_reach(stage: Stage) -> None:
    """It says so once, however often it tries, and once that it works again; then it takes jobs."""
    async with Link(stage.server.url) as link:
        link.cut()
        machine = stage.machine("a", url=link.url)
        await until("it tries three times", lambda: link.refused >= 3)
        assert len(machine.events("no_answer")) == 1
        assert link.url in machine.events("no_answer")[0]["why"]
        link.mend()
        await stage.completed(await stage.submit("say starts"))
        assert (len(machine.events("no_answer")), len(machine.events("answered_again"))) == (1, 1)


async def test_a_worker_whose_key_is_refused_ends_with_one_sentence(stage: Stage) -> None:
    """No key is like a wrong one: a non-zero exit code and one line that names KELPIE_API_KEY."""
    for machine in [stage.machine("a", key="klp_not-a-key"), stage.machine("b", KELPIE_API_KEY="")]:
        assert await machine.exit_code() != 0
        (error,) = (entry for entry in machine.logged() if entry["level"] in {"warning", "error"})
        assert error["event"] == "refused"
        assert "KELPIE_API_KEY" in error["hint"]
        assert "Traceback" not in machine.log.read_text()
