"""Claims, heartbeats, submissions and long polls over HTTP, as shares of the same app's no-op POST.

Run it: python tests/benchmarks/coordinator.py [pending jobs]. Only the ratios
mean anything: machines are noisy, and the load generator shares the two cores.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.hammer import build, exchange, rate

KEY = "benchmark-admin-key"
SECONDS = 3.0
BATCH = 1000
POLLS = 200
MACHINES = 64


def main() -> None:
    """Run every benchmark against one server."""
    pending = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port()
        url = f"http://127.0.0.1:{port}"
        environment = {**os.environ, "KELPIE_ADMIN_KEY": KEY, "KELPIE_PORT": str(port)}
        command = [sys.executable, str(Path(__file__).with_name("server_with_noop.py"))]
        with subprocess.Popen(command, cwd=folder, env=environment) as server:
            try:
                _await_ready(url)
                _report(url, port, pending)
            finally:
                server.terminate()


def _report(url: str, port: int, pending: int) -> None:
    submitted = asyncio.run(_submit(port, pending))
    print(f"submit in batches of {BATCH}: {submitted:,.0f} jobs/s")
    noop = rate(
        url, itertools.repeat(build("POST", "/noop", KEY, b'{"machine_id":"m"}')), _ok, seconds=SECONDS
    )
    print(f"no-op POST: {noop:,.0f}/s")
    held: list[str] = []
    numbers = itertools.count()
    claims = (
        build("GET", f"/work?machine_id=m{number % MACHINES}&container_group_id=g&version=b", KEY)
        for number in numbers
    )
    claimed = rate(url, claims, lambda status, body: held.append(_claimed(status, body)), seconds=SECONDS)
    print(f"durable claims: {claimed:,.0f}/s, {claimed / noop:.2f} of no-op")
    beats = itertools.cycle([_heartbeat(entry) for entry in held])
    beaten = rate(url, beats, _ok, seconds=SECONDS)
    print(f"heartbeats: {beaten:,.0f}/s, {beaten / noop:.2f} of no-op")
    waits = asyncio.run(_long_polls(port))
    print(f"long poll, job arrives to answer: p50 {waits[len(waits) // 2]:.2f} ms, "
          f"p99 {waits[int(len(waits) * 0.99)]:.2f} ms, mean {statistics.mean(waits):.2f} ms")  # fmt: skip


def _ok(status: int, body: bytes) -> None:
    if status != 200:
        raise RuntimeError(f"{status}: {body!r}")


def _claimed(status: int, body: bytes) -> str:
    _ok(status, body)
    if body == b"[]":
        raise RuntimeError("The queue ran empty: give more pending jobs.")
    job = msgspec.json.decode(body)[0]
    return f"{job['id']} {job['machine_id']} {job['attempt']}"


def _heartbeat(entry: str) -> bytes:
    job_id, machine_id, attempt = entry.split()
    body = {"machine_id": machine_id, "container_group_id": "g", "attempt": int(attempt)}
    return build("POST", f"/jobs/{job_id}/heartbeat", KEY, msgspec.json.encode(body))


def _definition(group: str) -> dict[str, object]:
    rule = {"bucket": "b", "prefix": "p/", "local_path": "/data", "direction": "upload"}
    return {
        "command": "python", "arguments": ["train.py", "--steps", "1000"], "container_group_id": group,
        "environment": {"SEED": "1"}, "sync": {"during": [rule], "after": [rule]}, "heartbeat_interval": 600,
    }  # fmt: skip


async def _submit(port: int, count: int) -> float:
    request = build("POST", "/jobs/batch", KEY, msgspec.json.encode([_definition("g")] * BATCH))
    batches = iter(range(count // BATCH))

    async def send() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
        for _ in batches:
            status, body = await exchange(reader, writer, request)
            if status != 202:
                raise RuntimeError(f"{status}: {body!r}")
        writer.close()

    start = time.perf_counter()
    await asyncio.gather(send(), send())
    return count / (time.perf_counter() - start)


async def _long_polls(port: int) -> list[float]:
    waits = []
    poll = build("GET", "/work?machine_id=w&container_group_id=quiet&wait=30&version=b", KEY)
    submit = build("POST", "/jobs", KEY, msgspec.json.encode(_definition("quiet")))
    worker = await asyncio.open_connection("127.0.0.1", port)
    user = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(POLLS):
        answer = asyncio.create_task(exchange(*worker, poll))
        # The poll must be waiting before the job arrives; its own wait is what is measured.
        await asyncio.sleep(0.01)
        start = time.perf_counter()
        await exchange(*user, submit)
        await answer
        waits.append((time.perf_counter() - start) * 1000)
    worker[1].close()
    user[1].close()
    return sorted(waits)


def _await_ready(url: str) -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"{url}/readyz"):
                return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("The server did not start.")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    main()
