"""The coordination API as Python: used by the worker, the command line and people's scripts.

Every call that is safe to repeat is repeated while the server cannot be
reached or is restarting, for at most `patience_s`. Submitting is made safe by
an Idempotency-Key, claiming by a claim id.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import aiohttp
import msgspec
import stamina

from kelpie.contract import (
    Attempts,
    BulkAnswer,
    BulkRequest,
    Completion,
    Count,
    Events,
    Failure,
    Heartbeat,
    HeartbeatAnswer,
    Interruption,
    Job,
    JobChange,
    JobPage,
    JobSpec,
    Keys,
    Message,
    NewToken,
    NewUser,
    Signal,
    Token,
    User,
)
from kelpie.errors import InvalidFields, Issue, KelpieError, Unreachable, error_from_wire
from kelpie.overview import ContainerGroups, Explanation, LiftedBans, Machines
from kelpie.webhook_contract import Deliveries, Delivery, WebhookChoice, WebhookSettings

_Answer = TypeVar("_Answer")
_CONNECT_S = 10.0
_ANSWER_S = 60.0
_LONGEST_PAUSE_S = 5.0
_FIRST_ERROR_STATUS = 400


class Client:
    """An async client of one Kelpie server; use it as `async with Client(url, key) as kelpie`."""

    def __init__(self, api_url: str, api_key: str | None = None, *, patience_s: float = 30.0) -> None:
        self._url = api_url.rstrip("/")
        self._headers = {"X-Kelpie-Key": api_key} if api_key else {}
        self._patience_s = patience_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # A worker on a stranger's network may need its proxy; trust_env honors HTTPS_PROXY and NO_PROXY.
        self._session = aiohttp.ClientSession(headers=self._headers, trust_env=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    # Jobs

    async def submit(self, spec: JobSpec, *, idempotency_key: str | None = None) -> Job:
        """Submit one job; raises InvalidFields or InvalidRequest with what is wrong."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return await self._call("POST", "/jobs", Job, body=spec, headers=headers)

    async def submit_batch(
        self, specs: Sequence[JobSpec], *, idempotency_key: str | None = None
    ) -> list[Job]:
        """Submit 1 to 1000 jobs in one transaction; the answer is in the same order."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return await self._call("POST", "/jobs/batch", list[Job], body=list(specs), headers=headers)

    async def job(self, job_id: str) -> Job:
        """Fetch one job; raises NotFound."""
        return await self._call("GET", _job_path(job_id), Job)

    async def jobs(self, **filters: str | int | bool | Sequence[str] | None) -> JobPage:
        """Fetch one page; the filters are those of `GET /jobs`, `label` is a list of `key=value`."""
        return await self._call("GET", "/jobs", JobPage, query=filters)

    async def attempts(self, job_id: str) -> Attempts:
        """Fetch every attempt of a job, oldest first; raises NotFound."""
        return await self._call("GET", _job_path(job_id, "attempts"), Attempts)

    async def events(self, job_id: str) -> Events:
        """Fetch what happened to a job, oldest first; raises NotFound."""
        return await self._call("GET", _job_path(job_id, "events"), Events)

    async def explain(self, job_id: str) -> Explanation:
        """Ask why a job is where it is; raises NotFound, also from a server that lacks the route."""
        return await self._call("GET", _job_path(job_id, "explain"), Explanation)

    async def cancel(self, job_id: str) -> Message:
        """Cancel a job; raises NotFound, or Conflict when it has ended otherwise."""
        return await self._call("DELETE", _job_path(job_id), Message)

    async def retry(self, job_id: str) -> Job:
        """Make a failed or canceled job pending again; raises NotFound, or Conflict in another state."""
        # Sent once: a repeat of one that was applied would be refused.
        return await self._call("POST", _job_path(job_id, "retry"), Job, repeat=False)

    async def change(self, job_id: str, change: JobChange) -> Job:
        """Change a job that has not ended; raises NotFound or AlreadyFinal."""
        return await self._call("PATCH", _job_path(job_id), Job, body=change)

    async def cancel_jobs(self, which: BulkRequest) -> BulkAnswer:
        """Cancel by filter what has not ended; `dry_run` only lists it."""
        return await self._call("POST", "/jobs/cancel", BulkAnswer, body=which, repeat=which.dry_run)

    async def retry_jobs(self, which: BulkRequest) -> BulkAnswer:
        """Retry by filter what failed or was canceled; `dry_run` only lists it."""
        return await self._call("POST", "/jobs/retry", BulkAnswer, body=which, repeat=which.dry_run)

    async def purge_group(self, container_group_id: str) -> int:
        """Remove a group's pending jobs and cancel its running ones; how many both were."""
        path = f"/jobs/container-groups/{quote(container_group_id, safe='')}"
        return (await self._call("DELETE", path, Count, repeat=False)).count

    # Work

    async def claim(
        self,
        machine_id: str,
        container_group_id: str,
        *,
        wait_s: float = 0,
        claim_id: str | None = None,
        version: str | None = None,
    ) -> Job | None:
        """Ask for a job, waiting up to `wait_s` (0 to 60) for one to become claimable."""
        query = {"machine_id": machine_id, "container_group_id": container_group_id}
        ours = {"wait": wait_s or None, "claim_id": claim_id, "version": version}
        jobs = await self._call("GET", "/work", list[Job], query={**query, **ours}, wait_s=wait_s)
        return jobs[0] if jobs else None

    async def heartbeat(self, job_id: str, report: Heartbeat) -> HeartbeatAnswer:
        """Renew the lease; raises LeaseLost when this attempt is not the live one."""
        return await self._call("POST", _job_path(job_id, "heartbeat"), HeartbeatAnswer, body=report)

    async def completed(self, job_id: str, report: Completion) -> Message:
        """Report that everything is done and stored; raises LeaseLost."""
        return await self._call("POST", _job_path(job_id, "completed"), Message, body=report)

    async def failed(self, job_id: str, report: Failure) -> Message:
        """Report a failure; raises LeaseLost."""
        return await self._call("POST", _job_path(job_id, "failed"), Message, body=report)

    async def interrupted(self, job_id: str, report: Interruption) -> Message:
        """Give the job back; raises LeaseLost."""
        return await self._call("POST", _job_path(job_id, "interrupted"), Message, body=report)

    async def signal(self, job_id: str, *, attempt: int, machine_id: str, wait_s: float = 0) -> Signal:
        """Wait up to `wait_s` for this attempt to stop being the live one."""
        query = {"attempt": attempt, "machine_id": machine_id, "wait": wait_s or None}
        return await self._call("GET", _job_path(job_id, "signal"), Signal, query=query, wait_s=wait_s)

    # Groups and machines

    async def container_groups(self, **query: int) -> ContainerGroups:
        """Fetch one page of the caller's queues: `page`, `page_size`."""
        return await self._call("GET", "/container-groups", ContainerGroups, query=query)

    async def machines(self, **query: int) -> Machines:
        """Fetch one page of the machines that poll: `page`, `page_size`."""
        return await self._call("GET", "/machines", Machines, query=query)

    async def lift_bans(self, machine_id: str) -> LiftedBans:
        """Offer a machine the caller's jobs that it was banned from."""
        return await self._call("DELETE", f"/machines/{quote(machine_id, safe='')}/bans", LiftedBans)

    # Users and keys

    async def me(self) -> User:
        """Fetch the user this client's key belongs to."""
        return await self._call("GET", "/users/me", User)

    async def add_user(self, user: NewUser) -> User:
        """Add a user (admin); raises InvalidRequest when the name is taken."""
        return await self._call("POST", "/users", User, body=user, repeat=False)

    async def create_key(self, user_id: str, key: NewToken) -> Token:
        """Create a key for a user (admin): the only time it is shown; raises NotFound."""
        return await self._call(
            "POST", f"/users/{quote(user_id, safe='')}/token", Token, body=key, repeat=False
        )

    async def keys(self) -> Keys:
        """List the caller's keys; an admin sees everybody's."""
        return await self._call("GET", "/keys", Keys)

    async def revoke_key(self, key_id: str) -> None:
        """Revoke a key at once; raises NotFound."""
        await self._call("DELETE", f"/keys/{quote(key_id, safe='')}", type(None))

    # Webhooks

    async def webhook(self) -> WebhookSettings:
        """Fetch the secret that verifies signatures, and what was chosen; made on first use."""
        return await self._call("GET", "/users/me/webhook", WebhookSettings)

    async def choose_webhook(self, choice: WebhookChoice) -> WebhookSettings:
        """Choose what `X-Kelpie-Key` carries, and the webhook of jobs that name none."""
        return await self._call("PUT", "/users/me/webhook", WebhookSettings, body=choice)

    async def deliveries(self, **filters: str | int | None) -> Deliveries:
        """Fetch one page of webhook messages, newest first: `job_id`, `page`, `page_size`."""
        return await self._call("GET", "/webhooks/deliveries", Deliveries, query=filters)

    async def resend(self, delivery_id: str) -> Delivery:
        """Send a webhook message once more, with the same id; raises NotFound."""
        return await self._call(
            "POST", f"/webhooks/deliveries/{quote(delivery_id, safe='')}/resend", Delivery
        )

    async def _call(
        self,
        method: str,
        path: str,
        kind: type[_Answer],
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0,
        repeat: bool = True,
    ) -> _Answer:
        request = _Request(
            method=method,
            url=self._url + path,
            query=[pair for name, value in (query or {}).items() for pair in _pairs(name, value)],
            payload=None if body is None else msgspec.json.encode(body),
            headers={"Content-Type": "application/json", **(headers or {})},
            timeout_s=wait_s + _ANSWER_S,
        )
        return _decode(await self._persist(request) if repeat else await self._once(request), kind)

    async def _persist(self, request: _Request) -> bytes:
        @stamina.retry(
            on=lambda error: isinstance(error, KelpieError) and error.is_retryable,
            attempts=None if self._patience_s else 1,
            timeout=self._patience_s or None,
            wait_max=_LONGEST_PAUSE_S,
        )
        async def tried() -> bytes:
            return await self._once(request)

        return await tried()

    async def _once(self, request: _Request) -> bytes:
        if self._session is None:
            raise RuntimeError("Use the client as `async with Client(...) as kelpie`.")
        try:
            async with self._session.request(
                request.method,
                request.url,
                params=request.query,
                data=request.payload,
                headers=request.headers,
                timeout=aiohttp.ClientTimeout(total=request.timeout_s, sock_connect=_CONNECT_S),
                allow_redirects=False,
            ) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise Unreachable(f"The server at {self._url} cannot be reached: {_cause(error)}.") from error
        if response.status >= _FIRST_ERROR_STATUS:
            raise _error(response.status, content)
        return content


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request, ready to be sent as often as it takes."""

    method: str
    url: str
    query: list[tuple[str, str]]
    payload: bytes | None
    headers: dict[str, str]
    timeout_s: float


def _cause(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorSSLError):
        return "it does not speak TLS there; is it http:// rather than https://?"
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, ConnectionRefusedError):
            return "the connection was refused, so no `kelpie serve` runs there"
        return error.os_error.strerror or str(error.os_error)
    return str(error) or type(error).__name__


def _job_path(job_id: str, part: str = "") -> str:
    path = f"/jobs/{quote(job_id, safe='')}"
    return f"{path}/{part}" if part else path


def _pairs(name: str, value: Any) -> list[tuple[str, str]]:
    if value is None:
        return []
    return [(name, _text(one)) for one in (value if isinstance(value, list | tuple) else [value])]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _decode(content: bytes, kind: type[_Answer]) -> _Answer:
    try:
        # 204 has no body at all, and its kind is NoneType.
        return msgspec.json.decode(content or b"null", type=kind)
    except msgspec.MsgspecError as error:
        raise KelpieError(f"The server's answer was not understood: {error}.") from error


class _Problem(msgspec.Struct):
    """Either family of error answers; a field that is absent stays empty."""

    type: str = ""
    error: str = ""
    message: str = ""
    title: str = ""
    detail: str = ""
    job_status: str = ""
    index: int | None = None
    errors: list[_Invalid] = []


class _Invalid(msgspec.Struct):
    """One wrong field of a refused request."""

    code: str = "invalid"
    path: list[str | int] = []
    message: str = ""


def _error(status: int, content: bytes) -> KelpieError:
    try:
        problem = msgspec.json.decode(content, type=_Problem)
    except msgspec.MsgspecError:
        return error_from_wire(status, "", f"The server answered {status}.")
    if problem.errors:
        return InvalidFields([Issue(wrong.code, wrong.message, wrong.path) for wrong in problem.errors])
    message = problem.message or problem.detail or problem.error or f"The server answered {status}."
    if problem.index is not None:
        message = f"Job {problem.index} of the batch: {message}"
    return error_from_wire(status, problem.type, message, job_status=problem.job_status)
