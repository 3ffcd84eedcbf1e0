"""A machine that can vanish: a real `kelpie worker` with a disk of its own, and all that it runs."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.end_to_end.patience import until

_PR_SET_PDEATHSIG = 1
_FOREIGN = (
    "KELPIE_",
    "SALAD_",
    "AWS_",
    "RCLONE_",
    "FILE_WATCHER_",
    "INPUT_DIR",
    "OUTPUT_DIR",
    "CHECKPOINT_DIR",
)
_libc = ctypes.CDLL(None)


def clean_environment() -> dict[str, str]:
    """Return the environment without the settings of whoever runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}


class Machine:
    """One machine of a test. Whatever runs on it is known by a mark in its environment."""

    def __init__(self, name: str, disk: Path, variables: Mapping[str, str]) -> None:
        self.name, self.disk = name, disk
        self.log = disk.with_name(f"{name}.log")
        self._mark = f"MACHINE_MARK={uuid.uuid4()}"
        disk.mkdir(parents=True, exist_ok=True)
        mark_name, _, mark = self._mark.partition("=")
        with self.log.open("ab") as log:
            self._worker = subprocess.Popen(
                [sys.executable, "-m", "kelpie", "worker"],
                cwd=disk,
                env={**clean_environment(), **variables, "MACHINE": name, mark_name: mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # Tests that are killed themselves leave no worker behind.
                preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM),  # noqa: PLW1509
            )

    def send(self, signum: signal.Signals) -> None:
        """Send a signal to the worker alone."""
        self._worker.send_signal(signum)

    async def exit_code(self) -> int:
        """Wait until the worker has ended; how it did."""
        await until(f"{self.name} ends", lambda: self._worker.poll() is not None)
        return int(self._worker.returncode)

    def lose(self) -> None:
        """Kill everything on it at once, and take its disk away."""
        self.kill()
        shutil.rmtree(self.disk)

    def kill(self) -> None:
        """Kill everything on it at once, stopped processes too; harmless when nothing is left."""
        self._signal_all(signal.SIGKILL)
        self._worker.wait()

    def freeze(self) -> None:
        """Stop every process on it, as a suspended virtual machine would."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let every process on it go on."""
        self._signal_all(signal.SIGCONT)

    def commands(self) -> set[int]:
        """Return the process ids of whatever runs on it beside the worker."""
        return self._processes() - {self._worker.pid}

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return what the worker logged under that name, oldest first."""
        return [entry for entry in self.logged() if entry.get("event") == name]

    async def event(self, name: str) -> dict[str, Any]:
        """Wait for the worker to log that; the first time it did."""
        found = await until(f"{self.name} logs {name}", lambda: self.events(name))
        return found[0]

    def logged(self) -> list[dict[str, Any]]:
        """Return the worker's own log lines; those of the commands are left out."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict):
                    found.append(entry)
        return found

    def _signal_all(self, signum: signal.Signals) -> None:
        done: set[int] = set()
        # Until a look finds nobody new: a process may fork while the others are signaled.
        while new := self._processes() - done:
            for pid in new:
                with suppress(ProcessLookupError):
                    os.kill(pid, signum)
            done |= new

    def _processes(self) -> set[int]:
        mark, found = self._mark.encode(), set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                # A zombie has an empty environment, another user's cannot be read, and some just ended.
                with suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.add(int(entry.name))
        return found
