"""What a test acts on: a user of a real server, a corner of a real bucket, and machines."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kelpie.client import Client
from kelpie.contract import Attempt, Job, JobSpec, Sync, SyncRule
from kelpie.lifecycle import FINAL, JobStatus, Outcome
from tests.end_to_end.machine import Machine, clean_environment
from tests.end_to_end.patience import PATIENCE_S, until, until_seen
from tests.kelpie_server import ServerProcess
from tests.s3_server import S3Server

BUCKET = "shelf"
GROUP = "gpu"
_LOG_LINES = 60

# What every script of a test may use. `hold` waits for a file that the test makes, `say` leaves a
# line where the test sees it whatever becomes of the machine, `put` writes a file whole.
_PRELUDE = """
hold() { while [ ! -e "$SHARED/$1" ]; do sleep 0.05; done; }
say() { file=$1; shift; echo "$KELPIE_ATTEMPT $MACHINE $*" >> "$SHARED/$file"; }
put() { printf %s "$2" > .new && mv .new "$1"; }
"""


@dataclass(frozen=True)
class Said:
    """What a `kelpie` command said."""

    code: int
    out: str
    err: str


@dataclass
class Stage:
    """One test's user, files and machines; nothing of it is left running afterwards."""

    server: ServerProcess
    s3: S3Server
    folder: Path
    user_key: str
    worker_key: str
    client: Client
    prefix: str = field(default_factory=lambda: f"{uuid.uuid4()}/")
    machines: list[Machine] = field(default_factory=list)

    @property
    def shared(self) -> Path:
        """A directory that survives every machine; scripts know it as SHARED."""
        return self.folder / "shared"

    def machine(
        self, name: str, *, url: str | None = None, key: str | None = None, **variables: str
    ) -> Machine:
        """Start a machine with an empty disk."""
        settings = {
            **self.s3.env(),
            "KELPIE_API_URL": url or self.server.url,
            "KELPIE_API_KEY": key or self.worker_key,
            "KELPIE_MACHINE_ID": name,
            "KELPIE_CONTAINER_GROUP_ID": GROUP,
            "INPUT_DIR": "input",
            "OUTPUT_DIR": "output",
            "CHECKPOINT_DIR": "checkpoint",
            "SHARED": str(self.shared),
        }
        machine = Machine(name, self.folder / name, {**settings, **variables})
        self.machines.append(machine)
        return machine

    def holder(self, job: Job) -> Machine:
        """Return the machine that has this job, or had it last."""
        return next(machine for machine in self.machines if machine.name == job.machine_id)

    async def submit(self, script: str = "", **fields: Any) -> Job:
        """Submit a shell script, or any job by its fields; leases last 2 s and a retry waits for nothing."""
        command = {"command": "sh", "arguments": ["-c", _PRELUDE + script]} if script else {}
        defaults = {"container_group_id": GROUP, "heartbeat_interval": 1, "retry_delay_s": 0}
        return await self.client.submit(JobSpec(**{**command, **defaults, **fields}))

    def sync(
        self,
        *,
        checkpoint: str = "",
        before: str = "",
        during: str = "",
        after: str = "",
        bucket: str = BUCKET,
    ) -> Sync:
        """Sync local directories with prefixes of the same name."""

        def rules(direction: Literal["download", "upload"], *paths: str) -> list[SyncRule]:
            return [
                SyncRule(bucket=bucket, prefix=self.prefix + path, local_path=path, direction=direction)
                for path in paths
                if path
            ]

        return Sync(
            before=rules("download", before, checkpoint),
            during=rules("upload", during, checkpoint),
            after=rules("upload", after),
        )

    def put(self, key: str, content: bytes = b"") -> None:
        """Put an object into this test's corner of the bucket; before the machines start."""
        path = self._corner / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def stored(self) -> dict[str, bytes]:
        """Read every object in this test's corner of the bucket."""
        found = {}
        for path in self._corner.rglob("*"):
            try:
                if path.is_file():
                    found[path.relative_to(self._corner).as_posix()] = path.read_bytes()
            except FileNotFoundError:
                continue  # replaced or removed between two looks
        return found

    async def until_stored(self, key: str, content: bytes) -> None:
        """Wait until an object has this content."""
        await until(f"{key} in the bucket is {content!r}", lambda: self.stored().get(key) == content)

    async def until_everything_stored(self, wanted: dict[str, bytes]) -> None:
        """Wait until the bucket holds exactly these objects."""
        await until(f"the bucket holds {wanted}", lambda: self.stored() == wanted)

    async def until_said(self, file: str, lines: int = 1) -> list[str]:
        """Wait for so many lines that scripts said."""
        await until(f"{lines} lines in {file}", lambda: len(self.said(file)) >= lines)
        return self.said(file)

    def said(self, file: str) -> list[str]:
        """Read the lines that scripts said into one file so far: attempt, machine, words."""
        path = self.shared / file
        return path.read_text().splitlines() if path.exists() else []

    def release(self, *gates: str) -> None:
        """Let the scripts that hold for these go on."""
        for gate in gates:
            (self.shared / gate).touch()

    async def until_job(self, job: Job, what: str, is_so: Callable[[Job], object]) -> Job:
        """Wait until a job is as wanted."""

        async def look() -> Job | None:
            seen = await self.client.job(job.id)
            return seen if is_so(seen) else None

        seen = await until_seen(f"the job {what}", look)
        assert seen is not None
        return seen

    async def until_running(self, job: Job) -> Job:
        """Wait until a machine has the job."""
        return await self.until_job(job, "runs", lambda seen: seen.status is JobStatus.RUNNING)

    async def ended(self, job: Job) -> Job:
        """Wait until a job has ended."""
        return await self.until_job(job, "ends", lambda seen: seen.status in FINAL)

    async def completed(self, *jobs: Job) -> None:
        """Wait until jobs have ended, and see that they completed."""
        for job in jobs:
            done = await self.ended(job)
            assert done.status is JobStatus.COMPLETED, (done.reason, await self.attempts(job))

    async def attempts(self, job: Job) -> list[Attempt]:
        """Fetch every attempt of a job."""
        return (await self.client.attempts(job.id)).attempts

    async def outcomes(self, job: Job) -> list[Outcome | None]:
        """Fetch how every attempt of a job ended."""
        return [attempt.outcome for attempt in await self.attempts(job)]

    async def kelpie(self, *arguments: str, cwd: Path | None = None, key: str | None = None) -> Said:
        """Run a `kelpie` command as this test's user, or with another key."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "kelpie",
            *arguments,
            cwd=cwd or self.folder,
            env={
                **clean_environment(),
                "KELPIE_API_URL": self.server.url,
                "KELPIE_API_KEY": self.user_key if key is None else key,
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        return Said(process.returncode or 0, out.decode(), err.decode())

    def strike(self) -> None:
        """End every machine, and show what the workers logged should the test have failed."""
        for machine in self.machines:
            machine.kill()
            _show(machine.name, machine.log.read_text(errors="replace").splitlines())

    @property
    def _corner(self) -> Path:
        return self.s3.root / BUCKET / self.prefix


@asynccontextmanager
async def open_stage(server: ServerProcess, s3: S3Server, folder: Path) -> AsyncIterator[Stage]:
    """Make a user on a server and a place for machines; everything that ran is gone afterwards."""
    (folder / "shared").mkdir(parents=True)
    account = server.new_account()
    worker_key = server.new_key(account.user_id, scope="worker")
    async with Client(server.url, account.key) as client:
        stage = Stage(server, s3, folder, account.key, worker_key, client)
        try:
            yield stage
        finally:
            stage.strike()


def _show(title: str, lines: Iterable[str]) -> None:
    print(f"--- {title}")
    for line in list(lines)[-_LOG_LINES:]:
        print(line)
