"""Every setting of server, worker and command line: default, unit, name, refusal.

One reader serves all three: defaults, then the table of `kelpie.toml`, then the
environment, then flags. This is the only module that reads the environment,
save `worker/child.py`, which builds the child's.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from kelpie.errors import ConfigError

LogLevel = Literal["debug", "info", "warning", "error"]
Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Span = Annotated[float, Meta(ge=0, le=1_000_000_000)]
Url = Annotated[str, Meta(pattern=r"^https?://[^/\s]+")]
Millis = Annotated[int, Meta(ge=0, le=3_600_000)]


class ServerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`kelpie serve`: the top level of kelpie.toml."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8787
    database: Path = Path("kelpie.db")
    log_level: LogLevel = "info"
    admin_key: Annotated[str, Meta(min_length=16)] | None = None
    ban_window_s: Span = 600.0
    timeout_margin_s: Span = 60.0
    max_waiters: Count = 5000
    max_body_mib: Count = 64
    max_job_kib: Count = 1024
    min_free_disk_mib: Annotated[int, Meta(ge=0)] = 200
    behind_proxy: bool = False
    cors_origins: list[str] = []
    failed_logins_per_minute: Count = 120
    body_patience_s: Annotated[float, Meta(gt=0, le=86400)] = 30.0
    webhook_allow_private: bool = False


class WorkerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`kelpie worker`: the table `[worker]`, or the environment of a container."""

    api_url: Url = "http://127.0.0.1:8787"
    api_key: str | None = None
    machine_id: str | None = None
    container_group_id: str | None = None
    input_dir: Path = Path("/input")
    output_dir: Path = Path("/output")
    checkpoint_dir: Path = Path("/checkpoint")
    state_file: Path = Path("kelpie-state.json")
    log_level: LogLevel = "info"
    idle_poll_s: Annotated[float, Meta(gt=0, le=86400)] = 10.0
    shutdown_grace_s: Annotated[float, Meta(gt=0, le=86400)] = 25.0
    transfer_memory_mib: Annotated[int, Meta(ge=32, le=1 << 20)] = 256
    file_watcher_debounce_ms: Millis = 0
    file_watcher_max_wait_ms: Millis = 5000
    file_watcher_stability_check_ms: Millis = 50
    strip_env: list[str] = []
    keep_env: list[str] = []


class ClientConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `kelpie submit`, `jobs`, `show`, `wait` and `cancel` need: the table `[client]`."""

    api_url: Url = "http://127.0.0.1:8787"
    api_key: str | None = None
    container_group_id: str = "default"


_SHARED_NAMES: dict[str, tuple[str, ...]] = {
    "api_url": ("KELPIE_API_URL",),
    "api_key": ("KELPIE_API_KEY",),
    "container_group_id": ("SALAD_CONTAINER_GROUP_ID", "KELPIE_CONTAINER_GROUP_ID"),
}

# Names that existing images already set; the first one that is present wins.
_WORKER_NAMES: dict[str, tuple[str, ...]] = {
    **_SHARED_NAMES,
    "machine_id": ("SALAD_MACHINE_ID", "KELPIE_MACHINE_ID"),
    "input_dir": ("INPUT_DIR",),
    "output_dir": ("OUTPUT_DIR",),
    "checkpoint_dir": ("CHECKPOINT_DIR",),
    "idle_poll_s": ("HEARTBEAT_INTERVAL_S",),
    "file_watcher_debounce_ms": ("FILE_WATCHER_DEBOUNCE_MS",),
    "file_watcher_max_wait_ms": ("FILE_WATCHER_MAX_WAIT_MS",),
    "file_watcher_stability_check_ms": ("FILE_WATCHER_STABILITY_CHECK_MS",),
}

TABLES: dict[str, type[Struct]] = {"worker": WorkerConfig, "client": ClientConfig}
"""The tables of kelpie.toml beside its top level, which is `ServerConfig`."""

SERVER_TABLES = ("webhook",)
"""Tables of the server's own: `[webhook] allow_private` is its setting `webhook_allow_private`."""

_Config = TypeVar("_Config", bound=Struct)


def server_config(
    flags: Mapping[str, Any], *, file: Path | None = None, environment: Mapping[str, str] | None = None
) -> ServerConfig:
    """Settings of the server; raises ConfigError naming the first wrong one."""
    return _load(ServerConfig, "", flags, file, environment)


def worker_config(
    flags: Mapping[str, Any], *, file: Path | None = None, environment: Mapping[str, str] | None = None
) -> WorkerConfig:
    """Settings of the worker; raises ConfigError naming the first wrong one."""
    return _load(WorkerConfig, "worker", flags, file, environment)


def client_config(
    flags: Mapping[str, Any], *, file: Path | None = None, environment: Mapping[str, str] | None = None
) -> ClientConfig:
    """Settings of the commands that talk to a server; raises ConfigError."""
    return _load(ClientConfig, "client", flags, file, environment)


def inherited_environment(*, without: tuple[str, ...]) -> dict[str, str]:
    """Copy the environment for a process of ours, less the variables with these prefixes."""
    return {name: value for name, value in os.environ.items() if not name.startswith(without)}


def environment_names(kind: type[Struct], field: str) -> tuple[str, ...]:
    """The environment variables that set `field`, strongest first."""
    if kind is WorkerConfig and field in _WORKER_NAMES:
        return _WORKER_NAMES[field]
    if kind is ClientConfig:
        return _SHARED_NAMES[field]
    return (f"KELPIE_{field.upper()}",)


def variable(name: str) -> str | None:
    """One variable of the caller's environment: what `kelpie submit --env NAME` passes on."""
    return os.environ.get(name)


def _load(
    kind: type[_Config],
    table: str,
    flags: Mapping[str, Any],
    file: Path | None,
    environment: Mapping[str, str] | None,
) -> _Config:
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for source, found in (
        *_from_file(kind, table, file, environment),
        *_from_environment(kind, environment),
        *((f"--{name.replace('_', '-')}", {name: value}) for name, value in flags.items()),
    ):
        for name, value in found.items():
            if value is not None:
                values[name], origin[name] = value, source
    return _build(kind, values, origin)


def _from_file(
    kind: type[Struct], table: str, file: Path | None, environment: Mapping[str, str]
) -> list[tuple[str, dict[str, Any]]]:
    named = file or (Path(environment["KELPIE_CONFIG"]) if environment.get("KELPIE_CONFIG") else None)
    path = named or Path("kelpie.toml")
    if named is None and not path.is_file():
        return []
    content = _flattened(_read_toml(path), path)
    _refuse_unknown(content, {*_fields(ServerConfig), *TABLES}, path, "")
    for name, other in TABLES.items():
        section = content.get(name, {})
        if not isinstance(section, dict):
            raise ConfigError(f"{path}: `{name}` must be a table: write [{name}] on a line of its own.")
        _refuse_unknown(section, set(_fields(other)), path, f"[{name}] ")
    mine = content.get(table, {}) if table else {k: v for k, v in content.items() if k not in TABLES}
    where = f"{path} [{table}]" if table else str(path)
    return [(f"{where} {name}", {name: value}) for name, value in mine.items() if name in _fields(kind)]


def _flattened(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    flat = {name: value for name, value in content.items() if name not in SERVER_TABLES}
    for table in SERVER_TABLES:
        section = content.get(table, {})
        if not isinstance(section, dict):
            raise ConfigError(f"{path}: `{table}` must be a table: write [{table}] on a line of its own.")
        start = f"{table}_"
        known = {name.removeprefix(start) for name in _fields(ServerConfig) if name.startswith(start)}
        _refuse_unknown(section, known, path, f"[{table}] ")
        flat |= {start + name: value for name, value in section.items()}
    return flat


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"The configuration file {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}.") from error


def _refuse_unknown(content: Mapping[str, Any], known: set[str], path: Path, where: str) -> None:
    for name in content:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else " See kelpie.toml.example for every key."
            raise ConfigError(f"{path}: {where}`{name}` is not a setting.{hint}")


def _from_environment(kind: type[Struct], environment: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for field, hint in _fields(kind).items():
        for name in environment_names(kind, field):
            # An empty variable counts as absent: compose files set them for "not given".
            if environment.get(name, "").strip():
                # A key read from a file ends in a newline more often than not.
                found.append((name, {field: _parse(environment[name].strip(), hint)}))
                break
    return found


def _parse(text: str, hint: Any) -> Any:
    if get_origin(hint) is list:
        return [item.strip() for item in text.split(",") if item.strip()]
    return text


def _build(kind: type[_Config], values: dict[str, Any], origin: dict[str, str]) -> _Config:
    hints = _fields(kind)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        try:
            # Environment and flags give text, so conversion is lax; TOML's own types pass through it.
            checked[name] = msgspec.convert(value, hints[name], strict=False, dec_hook=_decode_path)
        except msgspec.ValidationError as error:
            shown = "(not shown)" if name.endswith("_key") else repr(value)
            raise ConfigError(f"{origin[name]}: {_expectation(hints[name], error)}, got {shown}.") from error
    return kind(**checked)


def _decode_path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str) and value:
        return Path(value).expanduser()
    raise ValueError(f"Expected a path that is not empty, got {value!r}")


def _expectation(hint: Any, error: msgspec.ValidationError) -> str:
    if hint is Url:
        return "expected a URL that begins with http:// or https://"
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    if choices:
        return "expected one of " + ", ".join(choices)
    return str(error).replace("`", "").split(", got")[0].replace("Expected", "expected", 1)


def _fields(kind: type[Struct]) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)
