"""Routes of users and their keys."""

from __future__ import annotations

from litestar import Router, delete, get, post

from kelpie.contract import Keys, NewToken, NewUser, Token, User
from kelpie.errors import InvalidFields, Issue
from kelpie.server.auth import admins, managers, readers
from kelpie.server.bodies import read
from kelpie.server.manage import delete_users
from kelpie.server.openapi import Doc
from kelpie.server.services import Request, caller_of, services_of
from kelpie.store import access


@post(
    "/users",
    status_code=201,
    before_request=admins,
    operation_id="post_CreateUser",
    summary="Add a user",
    opt=Doc(body=NewUser, errors=(400,)).opt(),
)
async def create_user(request: Request) -> User:
    """Add a user (admin)."""
    new = await read(request, NewUser)
    return await access.add_user(services_of(request).store.database, new.username)


@post(
    "/users/{user_id:str}/token",
    status_code=201,
    before_request=admins,
    operation_id="post_CreateToken",
    summary="Create a key for a user",
    opt=Doc(body=NewToken, errors=(400, 404)).opt(),
)
async def create_token(request: Request, user_id: str) -> Token:
    """Create a key (admin): the answer is the only time it is shown."""
    new = await read(request, NewToken)
    if new.container_group_id is not None and new.scope != "worker":
        message = 'Expected the scope "worker": only worker keys can be bound to a container group'
        raise InvalidFields([Issue("invalid_value", message, ["body", "scope"])])
    return await access.create_key(services_of(request).store.database, user_id, new)


@get("/users/me", operation_id="get_GetUser", summary="Who am I", opt=Doc(errors=(404,)).opt())
async def get_me(request: Request) -> User:
    """Fetch the user this key belongs to."""
    return access.user_of(services_of(request).store.database, caller_of(request).user_seq)


@get(
    "/keys",
    before_request=readers,
    operation_id="get_ListKeys",
    summary="List keys",
    opt=Doc(is_new=True).opt(),
)
async def list_keys(request: Request) -> Keys:
    """List the caller's keys, revoked ones too; an admin's view is everybody's."""
    return await access.keys_of(services_of(request).store.database, caller_of(request))


@delete(
    "/keys/{key_id:str}",
    status_code=204,
    before_request=managers,
    operation_id="delete_RevokeKey",
    summary="Revoke a key",
    opt=Doc(errors=(404,), is_new=True).opt(),
)
async def revoke_key(request: Request, key_id: str) -> None:
    """Revoke a key; it is refused from the moment this is answered."""
    store = services_of(request).store
    store.forget_caller(await access.revoke_key(store.database, caller_of(request), key_id))


router = Router(
    "/",
    route_handlers=[create_user, create_token, get_me, list_keys, revoke_key, delete_users],
    tags=["users"],
)
