"""Long polls: answered the moment there is something, and never for nobody."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.kelpie_server import ServerProcess
from tests.server.api import GROUP, Api, work

WAIT_S = 20


async def _polling(api: Api, machine: str, group: str = GROUP, **query: Any) -> asyncio.Task[Any]:
    """Begin a long poll and return once the server waits."""
    task = asyncio.create_task(api.claim(machine, group, wait=WAIT_S, **query))
    await _arrived(api)
    return task


async def _arrived(api: Api) -> None:
    # Requests of one client are taken in order of arrival; a few turns later the poll waits.
    for _ in range(5):
        await api.get("/users/me")
        await asyncio.sleep(0.01)


async def _within(task: asyncio.Task[Any], seconds: float = 5) -> Any:
    async with asyncio.timeout(seconds):
        return await task


async def test_a_poll_is_answered_the_moment_a_job_arrives(api: Api) -> None:
    """Long before its time is over."""
    poll = await _polling(api, "m1")

    job = await api.submit()

    assert (await _within(poll))["id"] == job["id"]


async def test_a_poll_without_a_job_ends_with_an_empty_list(api: Api) -> None:
    """When its time is over."""
    assert (await api.get(work("m1", wait=0.1))).body == []


async def test_a_batch_wakes_as_many_as_it_has_jobs(api: Api) -> None:
    """Each gets one of its own."""
    polls = [await _polling(api, f"m{number}") for number in range(4)]
    batch = [{"command": "x", "container_group_id": GROUP}] * 4

    jobs = (await api.post("/jobs/batch", batch)).body

    got = [(await _within(poll))["id"] for poll in polls]
    assert sorted(got) == sorted(job["id"] for job in jobs)


async def test_one_job_goes_to_who_waited_longest(api: Api) -> None:
    """The others go on waiting, for the next."""
    first, second = await _polling(api, "m1"), await _polling(api, "m2")

    one = await api.submit()
    assert (await _within(first))["id"] == one["id"]
    assert not second.done()

    two = await api.submit()
    assert (await _within(second))["id"] == two["id"]


async def test_a_poll_of_another_group_or_user_is_not_woken(api: Api, make_api: Any) -> None:
    """Queues do not see each other."""
    elsewhere = await _polling(api, "m1", "elsewhere")
    stranger = await _polling(await make_api(), "m1")

    await api.submit()
    await _arrived(api)

    assert not elsewhere.done()
    assert not stranger.done()
    elsewhere.cancel()
    stranger.cancel()


async def test_a_job_that_comes_back_wakes_a_poll(api: Api) -> None:
    """Given back, or its lease lost."""
    job = await api.submit(heartbeat_interval=1)
    await api.claim("m1")
    poll = await _polling(api, "m2")
    await api.report(job["id"], "interrupted", "m1", attempt=1)
    assert (await _within(poll))["attempt"] == 2

    assert (await api.claim("m3", wait=WAIT_S))["attempt"] == 3


async def test_a_retry_delay_that_is_over_wakes_a_poll(api: Api) -> None:
    """Nobody need submit anything."""
    job = await api.submit(retry_delay_s=0.5)
    await api.claim("m1")
    await api.report(job["id"], "failed", "m1", attempt=1)

    assert (await api.claim("m2", wait=WAIT_S))["attempt"] == 2


async def test_a_banned_machine_passes_the_wake_on(api: Api) -> None:
    """It may not have the job, the next one may."""
    job = await api.submit(retry_delay_s=0.3, max_failures=9)
    for machine in ("m1", "m2"):
        await api.claim(machine, wait=WAIT_S)
        attempt = (await api.job(job["id"]))["attempt"]
        await api.report(job["id"], "failed", machine, attempt=attempt)
    banned = [await _polling(api, machine) for machine in ("m1", "m2")]

    free = await _polling(api, "m3")

    assert (await _within(free))["id"] == job["id"]
    assert not [poll for poll in banned if poll.done()]
    for poll in banned:
        poll.cancel()


async def test_a_client_that_went_away_gets_no_job(fresh_server: ServerProcess) -> None:
    """The job goes to the next who waits, and the log has nothing to complain of."""
    account = fresh_server.new_account()
    async with Api(fresh_server.url, account.key) as gone, Api(fresh_server.url, account.key) as api:
        leavers = [await _polling(gone, f"gone-{number}") for number in range(5)]
        stayer = await _polling(api, "stays")
        for leaver in leavers:
            leaver.cancel()
        await asyncio.wait(leavers)
        await _arrived(api)

        job = await api.submit()

        assert (await _within(stayer))["id"] == job["id"]
        assert (await api.job(job["id"]))["machine_id"] == "stays"
    assert "error" not in fresh_server.log.read_text()


async def test_a_crowd_that_leaves_while_jobs_arrive_strands_none(api: Api) -> None:
    """Whoever stays gets every job that no leaver was handed."""
    async with Api(api.url, api.key) as gone:
        leavers = [await _polling(gone, f"gone-{number}") for number in range(10)]
        submissions = [asyncio.create_task(api.submit()) for _ in range(10)]
        for leaver in leavers[::2]:
            leaver.cancel()
        jobs = [(await task)["id"] for task in submissions]
        handed = [done["id"] for leaver in leavers if (done := await _result(leaver))]
    rest = []
    while (claimed := await api.claim("stays", wait=0.2)) is not None:
        rest.append(claimed["id"])

    running = {job["id"] for job in (await api.get("/jobs?status=running")).body["jobs"]}
    assert running == set(jobs)
    assert not set(handed) & set(rest)


async def _result(task: asyncio.Task[Any]) -> Any:
    try:
        return await _within(task, 3)
    except (asyncio.CancelledError, TimeoutError):
        return None


async def test_a_holder_hears_of_a_cancel_at_once(api: Api) -> None:
    """Its signal says that the attempt is not live, and what the job is now."""
    job = await api.submit()
    await api.claim("m1")
    path = f"/jobs/{job['id']}/signal?attempt=1&machine_id=m1"
    assert (await api.get(path)).body == {"status": "running", "live": True}
    signal = asyncio.create_task(api.get(f"{path}&wait={WAIT_S}"))
    await _arrived(api)

    await api.delete(f"/jobs/{job['id']}")

    assert (await _within(signal)).body == {"status": "canceled", "live": False}
    assert (await api.get(f"{path}&wait={WAIT_S}")).body == {"status": "canceled", "live": False}


async def test_a_holder_hears_of_a_lost_lease(api: Api) -> None:
    """Without anybody claiming the job."""
    job = await api.submit(heartbeat_interval=1)
    await api.claim("m1")

    answer = await api.get(f"/jobs/{job['id']}/signal?attempt=1&machine_id=m1&wait={WAIT_S}")

    assert answer.body == {"status": "pending", "live": False}


async def test_a_signal_ends_with_its_time_when_nothing_happens(api: Api) -> None:
    """The attempt is then still live; a heartbeat does not disturb it."""
    job = await api.submit()
    await api.claim("m1")
    path = f"/jobs/{job['id']}/signal?attempt=1&machine_id=m1"
    signal = asyncio.create_task(api.get(f"{path}&wait=0.3"))
    await _arrived(api)

    await api.report(job["id"], "heartbeat", "m1", attempt=1)

    assert (await _within(signal)).body == {"status": "running", "live": True}


async def test_a_signal_of_an_attempt_that_is_not_live_is_answered_at_once(api: Api) -> None:
    """Another number, another machine, or a job that was never claimed."""
    job = await api.submit()
    await api.claim("m1")
    waiting = await api.submit()

    for path in (f"{job['id']}/signal?attempt=2&machine_id=m1", f"{job['id']}/signal?attempt=1&machine_id=m2",
                 f"{waiting['id']}/signal?attempt=1&machine_id=m1"):  # fmt: skip
        assert (await api.get(f"/jobs/{path}&wait={WAIT_S}")).body["live"] is False
    unknown = await api.get(f"/jobs/unknown/signal?attempt=1&machine_id=m1&wait={WAIT_S}")
    assert unknown.status == 404


async def test_beyond_the_cap_of_waiters_the_answer_comes_at_once(tmp_path: Any) -> None:
    """So many may wait, and one more may not."""
    with ServerProcess(tmp_path, environment={"KELPIE_MAX_WAITERS": "2"}) as server:
        account = server.new_account()
        async with Api(server.url, account.key) as api:
            polls = [await _polling(api, f"m{number}") for number in range(2)]
            assert not [poll for poll in polls if poll.done()]

            async with asyncio.timeout(5):
                assert await api.claim("m3", wait=WAIT_S) is None

            jobs = {(await api.submit())["id"] for _ in range(2)}
            assert {(await _within(poll))["id"] for poll in polls} == jobs
