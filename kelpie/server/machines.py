"""Routes of container groups and of the machines that poll them."""

from __future__ import annotations

from typing import Annotated

from litestar import Router, delete, get
from litestar.params import Parameter

from kelpie.contract import DEFAULT_PAGE, MAX_PAGE
from kelpie.overview import ContainerGroups, LiftedBans, Machines
from kelpie.server.auth import managers, readers
from kelpie.server.openapi import Doc
from kelpie.server.services import Request, caller_of, services_of
from kelpie.store import fleet, groups

_Size = Annotated[int, Parameter(ge=1, le=MAX_PAGE)]
_Number = Annotated[int, Parameter(ge=1, le=1 << 40)]


@get(
    "/container-groups",
    before_request=readers,
    operation_id="get_ListContainerGroups",
    summary="List queues",
    opt=Doc(errors=(400,), is_new=True).opt(),
)
async def list_groups(
    request: Request, *, page_size: _Size = DEFAULT_PAGE, page: _Number = 1
) -> ContainerGroups:
    """List the caller's container groups by name: jobs by state, the oldest that waits, workers seen."""
    store = services_of(request).store
    return await groups.page(
        store.database, store.tally, caller_of(request), now=store.now_ms(), number=page, size=page_size
    )


@get(
    "/machines",
    before_request=readers,
    operation_id="get_ListMachines",
    summary="List machines",
    opt=Doc(errors=(400,), is_new=True).opt(),
)
async def list_machines(request: Request, *, page_size: _Size = DEFAULT_PAGE, page: _Number = 1) -> Machines:
    """List the machines that poll the caller's groups, last seen first, with what they hold."""
    store = services_of(request).store
    return await fleet.page(store.database, store.polls, caller_of(request), number=page, size=page_size)


@delete(
    "/machines/{machine_id:str}/bans",
    status_code=200,
    before_request=managers,
    operation_id="delete_LiftBans",
    summary="Lift a machine's bans",
    opt=Doc(is_new=True).opt(),
)
async def lift_bans(request: Request, machine_id: str) -> LiftedBans:
    """Offer a machine the pending jobs of the caller's that it failed or gave back; 0 for an unknown one."""
    return await fleet.lift_bans(services_of(request).store.database, caller_of(request), machine_id)


router = Router("/", route_handlers=[list_groups, list_machines, lift_bans], tags=["machines"])
