"""Every message on the wire: the only thing server, worker, client and CLI share.

Field order is wire order: clients of the original compare bytes in places.
Times are strings, `2024-04-19T18:53:31.000Z`, UTC; fields named `_s` are
seconds. A field whose type allows `UNSET` is left out of the JSON when unset.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from kelpie.lifecycle import JobStatus, Outcome

MAX_BATCH = 1000
MAX_PAGE = 1000
DEFAULT_PAGE = 100
MAX_BULK = 10_000
MAX_WAIT_S = 60.0
MAX_LOG_TAIL = 1 << 20

_BIG = 2_000_000_000  # keeps products of two fields inside 64 bits
NonEmpty = Annotated[str, Meta(min_length=1, max_length=4096)]
Labels = Annotated[dict[NonEmpty, str], Meta(max_length=100)]
Positive = Annotated[int, Meta(ge=1, le=_BIG)]
Natural = Annotated[int, Meta(ge=0, le=_BIG)]
Seconds = Annotated[float, Meta(ge=0, le=_BIG)]
Scope = Literal["admin", "user", "worker", "read"]
WebhookEvent = Literal["running", "completed", "failed", "interrupted", "canceled"]
WEBHOOK_EVENTS: tuple[WebhookEvent, ...] = ("running", "completed", "failed")
"""What a webhook hears of when its job does not say."""
StopSignal = Literal["SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2"]


class SyncRule(Struct, kw_only=True, omit_defaults=True):
    """One (bucket, prefix) and local path pairing."""

    bucket: NonEmpty
    prefix: str
    local_path: str
    direction: Literal["download", "upload"]
    pattern: str | None = None
    kind: Literal["directory", "file"] = "directory"
    mode: Literal["mirror"] = "mirror"


class Sync(Struct, kw_only=True):
    """What is fetched before the command, sent while it runs, and sent after it exited 0."""

    before: list[SyncRule] | UnsetType | None = UNSET
    during: list[SyncRule] | UnsetType | None = UNSET
    after: list[SyncRule] | UnsetType | None = UNSET


class RetryRule(Struct, kw_only=True):
    """What an exit code means: try again, end the job, or do not count it."""

    exit_codes: Annotated[list[Annotated[int, Meta(ge=0, le=255)]], Meta(min_length=1, max_length=256)]
    action: Literal["retry", "fail", "interrupt"]


class JobSpec(Struct, kw_only=True, omit_defaults=True):
    """A submission: `POST /jobs`, or one element of `POST /jobs/batch`."""

    command: str
    container_group_id: NonEmpty
    arguments: list[str] | None = None
    environment: dict[str, str] | None = None
    input_bucket: str | None = None
    input_prefix: str | None = None
    checkpoint_bucket: str | None = None
    checkpoint_prefix: str | None = None
    output_bucket: str | None = None
    output_prefix: str | None = None
    max_failures: Positive | None = None
    heartbeat_interval: Positive | None = None
    webhook: str | None = None
    compression: bool | None = None
    sync: Sync | None = None
    name: Annotated[str, Meta(max_length=512)] | None = None
    priority: Annotated[int, Meta(ge=-_BIG, le=_BIG)] | None = None
    run_at: str | None = None
    after: Annotated[list[str], Meta(max_length=1000)] | None = None
    labels: Labels | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=_BIG)] | None = None
    max_interruptions: Natural | None = None
    retry_delay_s: Seconds | None = None
    retry_delay_max_s: Seconds | None = None
    upload_patience_s: Seconds | None = None
    retry_rules: Annotated[list[RetryRule], Meta(max_length=100)] | None = None
    webhook_events: Annotated[list[WebhookEvent], Meta(max_length=5)] | None = None
    stop_signal: StopSignal | None = None
    stop_grace_s: Seconds | None = None


class Progress(Struct, kw_only=True, omit_defaults=True):
    """How far the script says it is; `progress` runs from 0 to 1."""

    progress: Annotated[float, Meta(ge=0, le=1)] | None = None
    step: int | None = None
    total: int | None = None
    message: Annotated[str, Meta(max_length=1000)] | None = None


class Checkpoint(Struct, kw_only=True, omit_defaults=True):
    """The newest state of a job that is safe in the bucket."""

    stored: str
    files: int = 0
    bytes: int = 0


class Job(Struct, kw_only=True):
    """A job as the API shows it."""

    id: str
    user_id: str
    status: JobStatus
    created: str
    started: str | None = None
    completed: str | None = None
    canceled: str | None = None
    failed: str | None = None
    heartbeat: str | None = None
    num_failures: int = 0
    machine_id: str | None = None
    command: str
    arguments: list[str] = []
    environment: dict[str, str] = {}
    input_bucket: str | UnsetType = UNSET
    input_prefix: str | UnsetType = UNSET
    checkpoint_bucket: str | UnsetType = UNSET
    checkpoint_prefix: str | UnsetType = UNSET
    output_bucket: str | UnsetType = UNSET
    output_prefix: str | UnsetType = UNSET
    max_failures: int = 3
    heartbeat_interval: int = 30
    container_group_id: str
    webhook: str | None = None
    compression: bool = False
    num_heartbeats: int = 0
    sync: Sync | None = None
    name: str | None = None
    priority: int = 0
    run_at: str | None = None
    after: list[str] = []
    labels: dict[str, str] = {}
    timeout_s: float | None = None
    max_interruptions: int = 20
    retry_delay_s: float = 5.0
    retry_delay_max_s: float = 300.0
    upload_patience_s: float = 3600.0
    retry_rules: list[RetryRule] = []
    webhook_events: list[WebhookEvent] = field(default_factory=lambda: list(WEBHOOK_EVENTS))
    stop_signal: StopSignal | None = None
    stop_grace_s: float = 30.0
    attempt: int = 0
    num_interruptions: int = 0
    retries: int = 0
    progress: Progress | None = None
    last_checkpoint: Checkpoint | None = None
    reason: str | None = None


class JobPage(Struct, kw_only=True, rename={"count": "_count"}):
    """One page of `GET /jobs`; `count` (on the wire `_count`) is the number of jobs on it."""

    count: int
    jobs: list[Job]
    next_cursor: str | None = None


class JobChange(Struct, kw_only=True):
    """`PATCH /jobs/{id}`: what is absent or null stays as it is; `labels` replaces them all."""

    priority: Annotated[int, Meta(ge=-_BIG, le=_BIG)] | None = None
    labels: Labels | None = None
    max_failures: Positive | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=_BIG)] | None = None


class BulkRequest(Struct, kw_only=True):
    """`POST /jobs/cancel` and `POST /jobs/retry`: the jobs to which all of this applies."""

    status: JobStatus | None = None
    container_group_id: NonEmpty | None = None
    labels: Labels | None = None
    name: str | None = None
    ids: Annotated[list[str], Meta(max_length=MAX_BULK)] | None = None
    dry_run: bool = False


class BulkAnswer(Struct, kw_only=True):
    """Which jobs it was done to; `more`: there are others, so ask again."""

    count: int
    ids: list[str]
    more: bool = False


class Count(Struct, kw_only=True):
    """How many jobs it was done to."""

    count: int


class Report(Struct, kw_only=True):
    """Who speaks: the base of every report. Workers of the original send no `attempt`."""

    machine_id: NonEmpty
    container_group_id: NonEmpty
    attempt: Annotated[int, Meta(ge=1, le=_BIG)] | None = None


class Heartbeat(Report, kw_only=True):
    """A worker's sign of life for one attempt."""

    progress: Progress | None = None
    checkpoint: Checkpoint | None = None


class HeartbeatAnswer(Struct, kw_only=True, omit_defaults=True):
    """Whether to go on (`running`) or stop (`canceled`), and what changed for the holder."""

    status: str
    timeout_s: float | None = None


class Usage(Report, kw_only=True):
    """What an attempt used, sent with the report that ends it."""

    bytes_in: Annotated[int, Meta(ge=0, le=2**62)] = 0
    bytes_out: Annotated[int, Meta(ge=0, le=2**62)] = 0
    compute_s: Seconds = 0.0
    progress: Progress | None = None
    checkpoint: Checkpoint | None = None
    log_tail: Annotated[str, Meta(max_length=MAX_LOG_TAIL)] | None = None


class Completion(Usage, kw_only=True):
    """The command exited 0 and everything is stored."""


class Failure(Usage, kw_only=True):
    """The attempt failed: an exit code, a signal name, or a reason."""

    exit_code: Annotated[int, Meta(ge=-_BIG, le=_BIG)] | None = None
    signal: Annotated[str, Meta(max_length=32)] | None = None
    reason: Annotated[str, Meta(max_length=200)] | None = None
    detail: Annotated[str, Meta(max_length=4000)] | None = None


class Interruption(Usage, kw_only=True):
    """The machine goes away; the job goes back."""

    reason: Annotated[str, Meta(max_length=200)] | None = None


class Message(Struct, kw_only=True):
    """A plain acknowledgement."""

    message: str


class Signal(Struct, kw_only=True):
    """The answer of `GET /jobs/{id}/signal`: is this attempt still live, and what is the job."""

    status: str
    live: bool


class Attempt(Struct, kw_only=True):
    """One machine's try at a job."""

    attempt: int
    machine_id: str
    started: str
    ended: str | None
    outcome: Outcome | None
    exit_code: int | None
    signal: str | None
    reason: str | None
    detail: str | None
    num_heartbeats: int
    bytes_in: int
    bytes_out: int
    compute_s: float
    version: str | None
    log_tail: str | None


class Attempts(Struct, kw_only=True):
    """Every attempt of a job, oldest first."""

    attempts: list[Attempt]


class Event(Struct, kw_only=True, rename={"source": "from", "target": "to"}):
    """One thing that happened to a job; `from` and `to` are states."""

    id: int
    at: str
    kind: str
    actor: str
    attempt: int
    machine_id: str | None
    source: str | None
    target: str | None
    reason: str | None


class Events(Struct, kw_only=True):
    """What happened to a job, oldest first."""

    events: list[Event]


class NewUser(Struct, kw_only=True):
    """`POST /users`."""

    username: Annotated[str, Meta(max_length=255)]


class User(Struct, kw_only=True):
    """Somebody who owns jobs."""

    id: str
    username: str
    created: str


class NewToken(Struct, kw_only=True):
    """`POST /users/{id}/token`."""

    org_name: Annotated[str, Meta(max_length=255)] = ""
    project_name: Annotated[str, Meta(max_length=255)] = ""
    scope: Scope = "user"
    container_group_id: NonEmpty | None = None
    expires_in_s: Annotated[int, Meta(ge=1, le=_BIG)] | None = None
    name: Annotated[str, Meta(max_length=255)] = ""


class Token(Struct, kw_only=True):
    """A new key: the only time it is shown."""

    token: str
    id: str


class Key(Struct, kw_only=True):
    """What is known of a key; never the key."""

    id: str
    user_id: str
    username: str
    name: str
    scope: Scope
    container_group_id: str | None
    created: str
    expires: str | None
    revoked: str | None


class Keys(Struct, kw_only=True):
    """Keys, oldest first."""

    keys: list[Key]
