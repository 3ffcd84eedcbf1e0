"""What is said when a request is tried again: a sentence to a person, an event in a worker's log.

Without a hook of ours the retry library would log each try in words of its
own, with structlog to stdout, which is for data.
"""

from __future__ import annotations

import structlog
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from kelpie.cli.text import tell

_log = structlog.get_logger()


def tell_retries() -> None:
    """Say once per request, on stderr, that it is tried again."""
    set_on_retry_hooks([_tell_first])


def log_retries() -> None:
    """Log every retry as an event."""
    set_on_retry_hooks([_log_each])


def _tell_first(details: RetryDetails) -> None:
    if details.retry_num == 1:
        tell(f"{details.caused_by} Trying again.")


def _log_each(details: RetryDetails) -> None:
    _log.warning("retrying", why=str(details.caused_by), try_number=details.retry_num + 1)
