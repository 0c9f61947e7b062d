"""The HTTP and the WebSockets of machines: what a booking gives, and connections to it from both of their ends."""

from typing import Any

from litestar import Controller, get, post, websocket
from litestar.connection import WebSocket
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from aitbc.kernel.database.idempotency import IdempotencyKey
from aitbc.kernel.http.websocket import noting_refusal
from aitbc.kernel.identity.principal import Principal
from aitbc.modules.ai.api import BookingNotFound, BookingNotOpen
from aitbc.modules.gpu.api import MachineOffer, MinerNotFound, MinerNotThere
from aitbc.modules.gpu.models.machines import MachineSession, MachineView, OpenMachineSession
from aitbc.modules.gpu.routes.protocol import MinerProtocolUnsupported, require_protocol
from aitbc.modules.gpu.service.machine_relay import MachineRelay
from aitbc.modules.gpu.service.machines import (
    MachineNotOffered,
    Machines,
    MachineSessionIncomplete,
    MachineWanted,
    TooManyMachineSessions,
    WatchMachine,
)


class MachineController(Controller):
    """Machines of bookers."""

    tags = ("bookings",)

    @get(
        "/miners/{miner:str}/machine",
        operation_id="get_machine_offer",
        summary="Get what a miner gives as a machine",
        opt={"permission": "miners:read", "errors": (MinerNotFound,)},
    )
    async def offer(self, machines: NamedDependency[Machines], miner: FromPath[str]) -> MachineOffer:
        """Get, before booking it, whether whoever books a miner gets a machine with it, from which images, or why not.

        Anybody's miner: offers name theirs.
        """
        return await machines.offer_of(miner)

    @get(
        "/bookings/{booking:str}/machine",
        operation_id="get_machine",
        summary="Get the machine of a booking",
        opt={"permission": "jobs:read", "errors": (BookingNotFound,)},
    )
    async def view(
        self, machines: NamedDependency[Machines], who: NamedDependency[Principal], booking: FromPath[str]
    ) -> MachineView:
        """Get what a booking gives of a machine: whether and why not, from which images, and how long it ran."""
        return await machines.view(who, booking)

    @post(
        "/bookings/{booking:str}/sessions",
        operation_id="open_machine_session",
        summary="Open a connection to a booked machine",
        opt={
            "permission": "jobs:create",
            "errors": (
                *(BookingNotFound, BookingNotOpen, MinerNotThere, MachineNotOffered, MachineSessionIncomplete),
                TooManyMachineSessions,
            ),
        },
    )
    async def open(
        self,
        machines: NamedDependency[Machines],
        who: NamedDependency[Principal],
        once: NamedDependency[IdempotencyKey],
        booking: FromPath[str],
        data: JSONBody[OpenMachineSession],
    ) -> MachineSession:
        """Ask for a connection to the machine of a booking: a shell, files in or out, or a port. Only who pays can.

        The answer says where its WebSocket is opened, within a minute; the miner comes to the same from its side. What
        is sent and received there is in the guide to GPUs.
        """
        return await machines.open(who, booking, data, once)


class MachineWorkController(Controller):
    """The miner's side of machines."""

    tags = ("work",)
    guards = (require_protocol,)

    @post(
        "/machine/watch",
        operation_id="watch_machine",
        summary="Watch what is wanted of a machine",
        status_code=200,
        opt={
            "permission": "miners:work",
            "idempotency": "natural",
            "waits": True,
            "errors": (MinerNotFound, MinerProtocolUnsupported),
        },
    )
    async def watch(
        self,
        machines: NamedDependency[Machines],
        machine_relay: NamedDependency[MachineRelay],
        who: NamedDependency[Principal],
        data: JSONBody[WatchMachine],
    ) -> MachineWanted:
        """Say what the miner has of a machine, and wait until something else is wanted of it.

        It is asked while the miner is booked, as its heartbeats say.
        """
        return await machines.watch(who, data, machine_relay.draining)


class MachineSocketController(Controller):
    """The two ends of a connection."""

    path = "/sessions/{machine_session:str}"

    @websocket("/client", opt={"permission": "jobs:create", "lasts": True})
    async def client(
        self,
        socket: WebSocket[Any, Any, Any],
        machine_relay: NamedDependency[MachineRelay],
        machine_session: FromPath[str],
    ) -> None:
        """The booker's end."""
        await _carried(socket, machine_relay, machine_session, "client")

    @websocket("/miner", opt={"permission": "miners:work", "lasts": True})
    async def miner(
        self,
        socket: WebSocket[Any, Any, Any],
        machine_relay: NamedDependency[MachineRelay],
        machine_session: FromPath[str],
    ) -> None:
        """The miner's end."""
        await _carried(socket, machine_relay, machine_session, "miner")


async def _carried(socket: WebSocket[Any, Any, Any], relay: MachineRelay, session: str, side: str) -> None:
    who: Principal = socket.scope["state"]["principal"]
    with noting_refusal(socket.scope):
        end = await relay.admit(who, session, side)
    await socket.accept()
    await relay.carry(end, socket)
