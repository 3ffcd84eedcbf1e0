"""A real `kelpie serve` for tests: its own process, port and database, and every way to end it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ADMIN_KEY = "an-admin-key-for-tests"
_START_S = 30.0
_STOP_S = 20.0
_ANSWER_S = 10.0
_POLL_S = 0.02


@dataclass(frozen=True)
class Account:
    """A user and a key of that user."""

    user_id: str
    username: str
    key: str


class ServerProcess:
    """One server; use it as a context manager, or start and stop it.

    A restart keeps port and database, so clients need not know of it. What the
    server says goes to `log`, beside the database.
    """

    def __init__(
        self, directory: Path | None = None, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self.directory = directory or Path(tempfile.mkdtemp(prefix="kelpie-server-"))
        self.database = self.directory / "kelpie.db"
        self.log = self.directory / "server.log"
        self.admin_key = ADMIN_KEY
        self.url = ""
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        return self._running().pid

    def start(self) -> None:
        """Start the server and return once it is ready; raises AssertionError with its log otherwise."""
        port = self.url.rpartition(":")[2] or "0"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kelpie", "serve", "--port", port, "--database", str(self.database)],
                cwd=self.directory,
                env=self._variables(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """End the server if it still runs, politely and then firmly."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def terminate(self) -> int:
        """Send SIGTERM, wait for the end, and return the exit code."""
        self._running().terminate()
        return self.wait()

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self._running().kill()
        self.wait()

    def wait(self) -> int:
        """Wait for the end and return the exit code."""
        return self._running().wait(_STOP_S)

    def restart(self) -> None:
        """Stop the server if it still runs, and start it on the same port and database."""
        self.stop()
        self.start()

    def new_account(self, *, scope: str = "user", container_group_id: str | None = None) -> Account:
        """Add a user with a name of its own, and make a key for it."""
        name = f"user-{uuid.uuid4()}"
        user = self.call("POST", "/users", {"username": name})
        key = self.new_key(user["id"], scope=scope, container_group_id=container_group_id)
        return Account(user_id=user["id"], username=name, key=key)

    def new_key(self, user_id: str, **request: Any) -> str:
        """Make another key for a user: `scope`, `container_group_id`, `expires_in_s`, `name`."""
        asked = {"org_name": "org", "project_name": "project", **request}
        token: str = self.call("POST", f"/users/{user_id}/token", asked)["token"]
        return token

    def call(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> Any:
        """Make one request, as the admin unless a key is given, and return the decoded answer."""
        request = urllib.request.Request(
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"X-Kelpie-Key": key or self.admin_key, "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as response:
            return json.loads(response.read() or b"null")

    def _variables(self) -> dict[str, str]:
        # Settings of whoever runs the tests must not leak in.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("KELPIE_")}
        return {**inherited, "KELPIE_ADMIN_KEY": self.admin_key, **self._environment}

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server was not started"
        return self._process

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_S
        while not self._is_ready():
            alive = self._running().poll() is None
            assert alive, f"the server ended at once:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"the server is not ready:\n{self.log.read_text()}"
            time.sleep(_POLL_S)

    def _is_ready(self) -> bool:
        try:
            # The lock file names the process, so a url left behind by a killed server is no answer.
            holder = json.loads(self.database.with_name("kelpie.db.lock").read_bytes())
            if holder["pid"] != self.pid or not holder["url"]:
                return False
            self.url = holder["url"]
            self.call("GET", "/readyz")
        except (OSError, ValueError):
            return False
        return True
