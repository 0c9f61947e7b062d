"""Agents that answer elsewhere: their cards, and single A2A requests to them, under the egress policy."""

from typing import Any
from urllib.parse import urljoin

import msgspec

from aitbc.kernel.platform import Egress, Unreachable
from aitbc.modules.hermes.models.a2a import VERSION
from aitbc.modules.hermes.service.settings import HermesSettings

CARD = ".well-known/agent-card.json"
HEADERS = {"content-type": "application/json", "accept": "application/json", "a2a-version": VERSION}


class Endpoints:
    """Asks agents that answer elsewhere."""

    def __init__(self, egress: Egress | None, settings: HermesSettings) -> None:
        self._egress = egress
        self._settings = settings

    async def interface_of(self, endpoint: str) -> str:
        """Where the JSON-RPC of the agent at an endpoint is, as its card says. Raises `Unreachable`, `Invalid`."""
        card = await self._read(urljoin(endpoint.rstrip("/") + "/", CARD), None)
        interfaces = card.get("supportedInterfaces")
        for one in interfaces if isinstance(interfaces, list) else ():
            match one:
                case {"url": str(url), "protocolBinding": "JSONRPC", "protocolVersion": str(version)} if (
                    version.partition(".")[0] == "1"
                ):
                    self._open().check(url)
                    return url
        raise Unreachable("its card names no JSON-RPC interface of A2A 1")

    async def ask(self, url: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """The result of one request; an error of the agent is `Unreachable` with its code. Raises `Invalid`."""
        return result_of(await self._read(url, request_body(method, params)))

    async def _read(self, url: str, body: str | None) -> dict[str, Any]:
        answer = await self._open().fetch(
            url, self._settings.call_seconds, body=None if body is None else body.encode(), headers=HEADERS
        )
        if answer.status != 200:
            raise Unreachable(f"it answers {answer.status}")
        return read_object(answer.body)

    def _open(self) -> Egress:
        if self._egress is None:
            raise Unreachable("this process sends nothing outside")
        return self._egress


def request_body(method: str, params: dict[str, Any], identity: str = "1") -> str:
    """A JSON-RPC request."""
    return msgspec.json.encode({"jsonrpc": "2.0", "id": identity, "method": method, "params": params}).decode()


def read_object(body: bytes | str) -> dict[str, Any]:
    """A JSON object. Raises `Unreachable` for anything else."""
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Unreachable("its answer is no JSON object") from None


def result_of(answer: dict[str, Any]) -> dict[str, Any]:
    """The result of a JSON-RPC answer. Raises `Unreachable` for an error or nonsense."""
    match answer:
        case {"result": dict(result)}:
            return result
        case {"error": {"code": int(code)}}:
            raise Unreachable(f"it answers with the error {code}")
    raise Unreachable("its answer is no answer of A2A")
