"""Container groups, who polls them, and which machines are not offered a job."""

from __future__ import annotations

from kelpie.store.transaction import Transaction

POLL_PERSIST_MS = 60_000
"""A machine's last poll is written at most this often."""
_MOST_REMEMBERED = 100_000


def group_seq_of(transaction: Transaction, user_seq: int, container_group_id: str) -> int:
    """Find a user's container group, making it when it is named for the first time."""
    row = transaction.one(
        "SELECT group_seq FROM container_groups WHERE user_seq = ? AND container_group_id = ?",
        (user_seq, container_group_id),
    )
    if row is not None:
        return int(row[0])
    return transaction.insert(
        "INSERT INTO container_groups (user_seq, container_group_id) VALUES (?, ?)",
        (user_seq, container_group_id),
    )


class Polls:
    """Who asks for work, written at most once a minute per machine and group."""

    def __init__(self, ban_window_ms: int) -> None:
        # A poll that was not written must still count as recent for as long as bans ask.
        self._persist_ms = min(POLL_PERSIST_MS, ban_window_ms // 2)
        self._written: dict[tuple[int, str], int] = {}
        self._seen: dict[tuple[int, str], tuple[int, str]] = {}

    def seen(self, group_seq: int, machine_id: str) -> tuple[int, str] | None:
        """When a machine asked a group last since this server's start, and its version ("" when legacy)."""
        return self._seen.get((group_seq, machine_id))

    def record(
        self, transaction: Transaction, group_seq: int, machine_id: str, version: str | None = None
    ) -> None:
        """Remember that a machine asked a group for work."""
        key = (group_seq, machine_id)
        self._seen[key] = (transaction.now, version or "")
        last = self._written.get(key)
        # A clock that was anchored anew may have moved back.
        if last is not None and last <= transaction.now < last + self._persist_ms:
            return
        if len(self._written) >= _MOST_REMEMBERED:
            self._written.clear()
            self._seen.clear()
        self._written[key] = transaction.now
        transaction.run(
            """
            INSERT INTO polls (group_seq, machine_id, polled) VALUES (?, ?, ?)
            ON CONFLICT DO UPDATE SET polled = excluded.polled
            """,
            (group_seq, machine_id, transaction.now),
        )


def ban(transaction: Transaction, job_seq: int, machine_id: str) -> None:
    """Do not offer a job to the machine that failed it while another can take it (rules 6 and 7)."""
    transaction.run(
        """
        INSERT INTO bans (job_seq, machine_id, since) VALUES (:job_seq, :machine_id, :now)
        ON CONFLICT DO UPDATE SET since = :now, until = NULL
        """,
        {"job_seq": job_seq, "machine_id": machine_id, "now": transaction.now},
    )


def is_banned(transaction: Transaction, job_seq: int, machine_id: str) -> bool:
    """Whether a machine failed this job."""
    row = transaction.one(
        "SELECT 1 FROM bans WHERE job_seq = ? AND machine_id = ? AND until IS NULL", (job_seq, machine_id)
    )
    return row is not None


def times_given_back(transaction: Transaction, job_seq: int, machine_id: str) -> int:
    """How often in a row a machine gave this job back soon after taking it."""
    row = transaction.one(
        "SELECT times FROM bans WHERE job_seq = ? AND machine_id = ? AND until IS NOT NULL",
        (job_seq, machine_id),
    )
    return 0 if row is None else int(row[0])


def forgive(transaction: Transaction, job_seq: int, machine_id: str) -> None:
    """Forget that a machine gave a job back soon; a ban for a failure stays."""
    transaction.run(
        "DELETE FROM bans WHERE job_seq = ? AND machine_id = ? AND until IS NOT NULL", (job_seq, machine_id)
    )


def hold_off(transaction: Transaction, job_seq: int, machine_id: str, *, delay_ms: int, times: int) -> None:
    """Offer a job that was given back at once to other machines first (rule 5)."""
    transaction.run(
        """
        INSERT INTO bans (job_seq, machine_id, since, until, times)
        VALUES (:job_seq, :machine_id, :now, :now + :delay_ms, :times)
        ON CONFLICT DO UPDATE SET since = :now, until = :now + :delay_ms, times = :times
            WHERE until IS NOT NULL
        """,
        {
            "job_seq": job_seq,
            "machine_id": machine_id,
            "now": transaction.now,
            "delay_ms": delay_ms,
            "times": times,
        },
    )
