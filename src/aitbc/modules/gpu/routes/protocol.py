"""The version of the miners' protocol: a miner may send it along, and one that is not supported here is refused."""

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from aitbc.kernel.http.scope import header_values
from aitbc.kernel.primitives.errors import AppError

HEADER = b"aitbc-miner-protocol"
SUPPORTED = ("1",)


class MinerProtocolUnsupported(AppError):
    """This miner speaks another version of the protocol than this server; bring the older of the two up to date."""

    status, code, exit_code = 426, "miner_protocol_unsupported", 1


async def require_protocol(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Before the body is read: a later version may hold what this one does not know.

    Raises `MinerProtocolUnsupported`.
    """
    if any(version not in SUPPORTED for version in header_values(connection.scope, HEADER)):
        upgrade = ", ".join(f"aitbc-miner/{version}" for version in SUPPORTED)
        raise MinerProtocolUnsupported(headers={"Upgrade": upgrade}, supported=list(SUPPORTED))
