"""Users and their keys. Only the hash of a key is kept."""

from __future__ import annotations

import hashlib
import secrets
import uuid
import zlib

from msgspec import Struct

from kelpie.contract import Key, Keys, NewToken, Scope, Token, User
from kelpie.errors import InvalidRequest, NotFound
from kelpie.store.clock import iso, iso_or_none
from kelpie.store.database import Database
from kelpie.store.transaction import Row, Transaction
from kelpie.store.writer import Order

ADMIN = "admin"
BOOTSTRAP = "bootstrap"
_MS = 1000
KEY_PREFIX = "klp_"
_KEY_BYTES = 32


class Caller(Struct, frozen=True, kw_only=True):
    """Who is asking, as the key says."""

    user_seq: int
    user_id: str
    username: str
    key_seq: int
    key_id: str
    scope: Scope
    container_group_id: str | None = None
    expires: int | None = None

    @property
    def is_admin(self) -> bool:
        """Whether everything is allowed."""
        return self.scope == "admin"

    @property
    def may_submit(self) -> bool:
        """Whether the key may manage jobs, and not only work on them."""
        return self.scope in {"admin", "user"}

    def may_touch_group(self, container_group_id: str) -> bool:
        """Whether the key is bound to no group, or to this one."""
        return self.container_group_id in {None, container_group_id}


def new_key() -> str:
    """Make a key: 256 random bits and a checksum that tells a typo from a wrong key."""
    body = secrets.token_hex(_KEY_BYTES)
    return f"{KEY_PREFIX}{body}{zlib.crc32(body.encode()):08x}"


def hash_key(key: str) -> bytes:
    """Hash a key for storage and look-up; it is random, so a plain hash is enough."""
    return hashlib.sha256(key.encode()).digest()


def caller_of(database: Database, key_hash: bytes) -> Caller | None:
    """Find whose key this is; revoked keys find nobody, expiry is the reader's to check."""
    row = database.one(
        """
        SELECT users.user_seq, users.user_id, users.username, keys.key_seq, keys.key_id, keys.scope,
            keys.container_group_id, keys.expires
        FROM keys JOIN users ON users.user_seq = keys.user_seq
        WHERE keys.hash = ? AND keys.revoked IS NULL
        """,
        (key_hash,),
    )
    if row is None:
        return None
    return Caller(
        user_seq=row[0], user_id=row[1], username=row[2], key_seq=row[3], key_id=row[4], scope=row[5],
        container_group_id=row[6], expires=row[7],
    )  # fmt: skip


def admin_caller(database: Database) -> Caller | None:
    """Make a caller of the local admin, for commands on the server's own machine.

    Whoever may read the lock file may write the database itself, so this is no new power.
    """
    row = database.one(
        "SELECT user_seq, user_id, username FROM users WHERE source = 'local' AND username = ?", (ADMIN,)
    )
    if row is None:
        return None
    return Caller(user_seq=row[0], user_id=row[1], username=row[2], key_seq=0, key_id="local", scope="admin")


def user_of(database: Database, user_seq: int) -> User:
    """Read a user; raises NotFound."""
    row = database.one("SELECT user_id, username, created FROM users WHERE user_seq = ?", (user_seq,))
    if row is None:
        raise NotFound("User not found")
    return user_from(row)


async def add_user(database: Database, username: str) -> User:
    """Add a user; raises InvalidRequest when the name is taken."""
    return await database.write(Order.SUBMIT, lambda transaction: _add_user(transaction, username))


async def create_key(database: Database, user_id: str, request: NewToken) -> Token:
    """Make a key for a user; raises NotFound. The answer is the only place it is ever shown."""
    key = new_key()

    def operation(transaction: Transaction) -> Token:
        row = transaction.one("SELECT user_seq FROM users WHERE user_id = ?", (user_id,))
        if row is None:
            raise NotFound("User not found")
        return Token(token=key, id=_insert_key(transaction, row[0], key, request))

    return await database.write(Order.SUBMIT, operation)


async def revoke_key(database: Database, caller: Caller, key_id: str) -> bytes:
    """Revoke a key at once and return its hash; raises NotFound, for other users' keys too."""

    def operation(transaction: Transaction) -> bytes:
        row = transaction.one(
            """
            UPDATE keys SET revoked = coalesce(revoked, :now)
            WHERE key_id = :key_id AND (:is_admin OR user_seq = :user_seq) RETURNING hash
            """,
            {
                "now": transaction.wall,
                "key_id": key_id,
                "is_admin": caller.is_admin,
                "user_seq": caller.user_seq,
            },
        )
        if row is None:
            raise NotFound("Key not found")
        return bytes(row[0])

    return await database.write(Order.REPORT, operation)


async def keys_of(database: Database, caller: Caller) -> Keys:
    """List the caller's keys, an admin's view is everybody's."""
    rows = await database.all(
        KEYS_SQL + " WHERE :is_admin OR keys.user_seq = :user_seq ORDER BY keys.key_seq",
        {"is_admin": caller.is_admin, "user_seq": caller.user_seq},
    )
    return Keys(keys=[key_of(row) for row in rows])


KEYS_SQL = """
    SELECT keys.key_id, users.user_id, users.username, keys.name, keys.scope, keys.container_group_id,
        keys.created, keys.expires, keys.revoked
    FROM keys JOIN users ON users.user_seq = keys.user_seq
"""


def key_of(row: Row) -> Key:
    """Make the wire object from a row of `KEYS_SQL`."""
    return Key(
        id=row[0], user_id=row[1], username=row[2], name=row[3], scope=row[4], container_group_id=row[5],
        created=iso(row[6]), expires=iso_or_none(row[7]), revoked=iso_or_none(row[8]),
    )  # fmt: skip


async def bootstrap(database: Database, wanted: str | None) -> str | None:
    """See to it that there is an admin, with the wanted key if one is given.

    Returns a key that was made and must be shown once, or None.
    """

    def operation(transaction: Transaction) -> str | None:
        row = transaction.one("SELECT user_seq FROM users WHERE username = ? AND source = 'local'", (ADMIN,))
        if row is None:
            admin = _add_user(transaction, ADMIN)
            row = transaction.one("SELECT user_seq FROM users WHERE user_id = ?", (admin.id,)) or (0,)
        if wanted is not None:
            _replace_bootstrap_key(transaction, row[0], wanted)
            return None
        if _has_admin_key(transaction):
            return None
        made = new_key()
        _insert_key(transaction, row[0], made, NewToken(scope="admin", name=BOOTSTRAP))
        return made

    return await database.write(Order.SUBMIT, operation)


def _replace_bootstrap_key(transaction: Transaction, user_seq: int, key: str) -> None:
    # The setting is the truth: a changed KELPIE_ADMIN_KEY takes the place of the one before.
    transaction.run(
        """
        UPDATE keys SET revoked = :now
        WHERE user_seq = :user_seq AND name = :name AND revoked IS NULL AND hash <> :hash
        """,
        {"now": transaction.wall, "user_seq": user_seq, "name": BOOTSTRAP, "hash": hash_key(key)},
    )
    row = transaction.one("SELECT key_seq FROM keys WHERE hash = ?", (hash_key(key),))
    if row is None:
        _insert_key(transaction, user_seq, key, NewToken(scope="admin", name=BOOTSTRAP))
    else:
        transaction.run(
            "UPDATE keys SET revoked = NULL, scope = 'admin', user_seq = ? WHERE key_seq = ?",
            (user_seq, row[0]),
        )


def _has_admin_key(transaction: Transaction) -> bool:
    row = transaction.one(
        "SELECT 1 FROM keys WHERE scope = 'admin' AND revoked IS NULL AND (expires IS NULL OR expires > ?)",
        (transaction.wall,),
    )
    return row is not None


def _add_user(transaction: Transaction, username: str) -> User:
    if transaction.one("SELECT 1 FROM users WHERE source = 'local' AND username = ?", (username,)):
        raise InvalidRequest("User exists")
    user = User(id=str(uuid.uuid4()), username=username, created=iso(transaction.wall))
    transaction.run(
        "INSERT INTO users (user_id, username, created) VALUES (?, ?, ?)",
        (user.id, username, transaction.wall),
    )
    return user


def _insert_key(transaction: Transaction, user_seq: int, key: str, request: NewToken) -> str:
    key_id = str(uuid.uuid4())
    expires = None if request.expires_in_s is None else transaction.wall + request.expires_in_s * _MS
    transaction.run(
        """
        INSERT INTO keys (key_id, user_seq, hash, name, scope, container_group_id, org_name, project_name,
            created, expires)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            key_id,
            user_seq,
            hash_key(key),
            request.name,
            request.scope,
            request.container_group_id,
            request.org_name,
            request.project_name,
            transaction.wall,
            expires,
        ),
    )
    return key_id


def user_from(row: Row) -> User:
    """Make the wire object from a row of user_id, username and created."""
    return User(id=row[0], username=row[1], created=iso(row[2]))
