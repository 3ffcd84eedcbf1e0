"""The command of a job: started in a session of its own, stopped politely then firmly, gone whole.

The only module besides `config.py` that reads the environment: it builds the
child's.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog

from kelpie.errors import ChildFailed
from kelpie.worker import tree
from kelpie.worker.clock import boottime
from kelpie.worker.logs import Passthrough, Tail
from kelpie.worker.outcome import Ended

SECRETS = frozenset({"KELPIE_API_KEY", "KELPIE_ADMIN_KEY", "SALAD_API_KEY"})
"""What a job's command has no business to know; AWS variables stay, many scripts use them."""

_KILL_WITHIN_S = 10.0
_PIPES_WITHIN_S = 2.0
_LOOK_S = 0.2
_SHUTDOWN_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_SHELL_SIGNAL_BASE = 128
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ChildExit:
    """How a command ended: an exit code or the name of a signal."""

    code: int | None
    signal: str | None
    killed_at: float | None
    """Wall time, seconds, at which it had to be killed; None when it ended by itself."""
    ran_s: float

    @property
    def ended(self) -> Ended:
        """What the outcome table wants to know."""
        if self.signal is not None:
            return Ended.SIGNAL
        return Ended.NONZERO if self.code else Ended.ZERO

    @property
    def is_like_shutdown(self) -> bool:
        """Whether a machine that shuts down, and signals everybody, looks so from here."""
        if self.signal is not None:
            return self.signal in {number.name for number in _SHUTDOWN_SIGNALS}
        # A shell reports its command's death by signal as an exit code.
        return self.code in {_SHELL_SIGNAL_BASE + number for number in _SHUTDOWN_SIGNALS}


def build_environment(
    job: Mapping[str, str], kelpie: Mapping[str, str], *, strip: Iterable[str] = (), keep: Iterable[str] = ()
) -> dict[str, str]:
    """The child's environment: the worker's less its keys, then the job's, then Kelpie's, which win."""
    hidden = (SECRETS | set(strip)) - set(keep)
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in hidden and name != "KELPIE_LAST_PROGRESS"
    }
    return {**inherited, **job, **kelpie}


class Child:
    """A running command; use it as `async with Child(…) as child`, and nothing of it survives the block."""

    def __init__(
        self, command: str, arguments: Sequence[str], environment: Mapping[str, str], tail: Tail
    ) -> None:
        self._command = [command, *arguments]
        self._environment = dict(environment)
        self._tail = tail
        self._killed_at: float | None = None
        self._ended_at: float | None = None
        self.started_at = 0.0
        """Boot time at which the command was started."""

    async def __aenter__(self) -> Self:
        """Start the command; raises ChildFailed."""
        tree.adopt_orphans()
        # Whatever is below the worker already, say another job's uploader, is not this job's.
        self._others = tree.descendants(os.getpid())
        pipes = [os.pipe(), os.pipe()]
        try:
            self._process = await self._spawn(pipes[0][1], pipes[1][1])
        except BaseException:
            for reading, _ in pipes:
                os.close(reading)
            raise
        finally:
            for _, writing in pipes:
                os.close(writing)
        self.started_at = boottime()
        self._streams = [
            Passthrough(reading, to, self._tail) for (reading, _), to in zip(pipes, (1, 2), strict=True)
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.sweep()

    @property
    def pid(self) -> int:
        """The command's process id, and its process group's and session's."""
        return self._process.pid

    async def wait(self) -> ChildExit:
        """Wait until the command itself has ended; what it started may live on."""
        await self._process.wait()
        return self._ended()

    async def stop(self, signum: signal.Signals, until: Callable[[], float]) -> ChildExit:
        """Send `signum` to the group, give all of it until that boot time, then kill the whole tree.

        `until` is asked again and again: a notice shortens a grace that runs.
        The group, not the command, has the grace: a shell dies at once of what
        the program below it needs its time for.
        """
        self._signal_group(signum)
        while self._lives() and (left_s := until() - boottime()) > 0:
            await self._wait_for(min(left_s, _LOOK_S))
        before = time.time()
        was_alive = self._lives()
        await self.sweep()
        if was_alive:
            self._killed_at = before
        return self._ended()

    async def sweep(self) -> None:
        """Kill whatever is left of the tree, daemons too, and read its output to the end."""
        self._signal_group(signal.SIGKILL)
        if self._process.returncode is None:
            await self._wait_for(_KILL_WITHIN_S)
        # A command that cannot die, stuck in the kernel, stays asyncio's to reap.
        spared = self._others if self._process.returncode is not None else {*self._others, self.pid}
        left_behind = await tree.kill_all(spared)
        if left_behind:
            _log.info("left_behind_killed", processes=left_behind)
        for stream in self._streams:
            await stream.finish(_PIPES_WITHIN_S)

    async def reap_orphans(self) -> None:
        """Reap, until cancelled, what the command started and abandoned."""
        await tree.reap_orphans({*self._others, self.pid})

    async def _spawn(self, stdout: int, stderr: int) -> asyncio.subprocess.Process:
        try:
            # The pipes are made by hand: asyncio's own would let `wait` hang on a grandchild that holds them.
            return await asyncio.create_subprocess_exec(
                *self._command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=self._environment,
                start_new_session=True,
                preexec_fn=functools.partial(tree.die_with, os.getpid()),
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            # ValueError: a NUL in an argument, or "=" in a variable's name.
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise ChildFailed(f"The command {self._command[0]!r} cannot be started: {why}.") from error

    async def _wait_for(self, timeout_s: float) -> None:
        if self._process.returncode is not None:
            await asyncio.sleep(min(timeout_s, _LOOK_S))
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._process.wait()

    def _lives(self) -> bool:
        return self._process.returncode is None or tree.has_living(self.pid)

    def _signal_group(self, signum: signal.Signals) -> None:
        # Once nobody is left in the group its number may become somebody else's.
        if self._lives():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signum)

    def _ended(self) -> ChildExit:
        self._ended_at = self._ended_at or boottime()
        # Without a code it survived SIGKILL, stuck in the kernel: as good as dead.
        code = self._process.returncode if self._process.returncode is not None else -signal.SIGKILL
        return ChildExit(
            code=code if code >= 0 else None,
            signal=_name(-code) if code < 0 else None,
            killed_at=self._killed_at,
            ran_s=self._ended_at - self.started_at,
        )


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"
